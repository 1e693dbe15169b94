package bgp

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/margay-project/margay/calc"
)

const (
	idleHold = 5 // seconds after a reset; GoBGP's default is 30

	// While we restart, GoBGP holds our updates back for this long after a session has come up, so peers can send their routes
	// first. Our paths do not depend on theirs, so the shortest time that GoBGP takes is best. A reflector waits for routes of its
	// peers: they would drop each other's routes if it told them too early that it has sent all. Peers connect again within 10 s.
	deferral          = 1  // seconds
	reflectorDeferral = 30 // seconds

	// Calico's BIRD sends this value for a route of metric 1024. In a mixed cluster both must agree on the best path.
	localPref = math.MaxInt32 - 1024

	gracefulShutdown     = 0xffff0000 // the community 65535:0 (RFC 8326)
	gracefulShutdownText = "65535:0"
)

// apiPeer makes GoBGP's form of a peer. Equal sessions must give equal peers: GoBGP resets a session whose peer changes.
func apiPeer(s session, restarting bool) *api.Peer {
	p := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: s.Address.String(),
			PeerAsn:         s.AS,
			LocalAsn:        s.LocalAS,
			AuthPassword:    string(s.Password),
			AllowOwnAsn:     uint32(s.AllowOwnAS),
		},
		Transport: &api.Transport{RemotePort: uint32(s.Port), PassiveMode: s.Passive},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry:           uint64(s.Retry),
			HoldTime:               uint64(s.Hold),
			KeepaliveInterval:      uint64(s.Keepalive),
			IdleHoldTimeAfterReset: idleHold,
		}},
		GracefulRestart: &api.GracefulRestart{
			Enabled:         true,
			RestartTime:     uint32(s.RestartTime),
			DeferralTime:    deferral,
			LocalRestarting: restarting,
		},
	}
	for _, family := range apiFamilies(s.Address) {
		p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: family, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
		})
	}
	if s.Cluster.IsValid() {
		p.GracefulRestart.DeferralTime = reflectorDeferral
	}
	if s.Client {
		p.RouteReflector = &api.RouteReflector{RouteReflectorClient: true, RouteReflectorClusterId: s.Cluster.String()}
	}
	switch {
	case s.Source.IsValid():
		p.Transport.LocalAddress = s.Source.String()
	case s.Address.Zone() != "":
		p.Transport.LocalAddress = "::" // without it, GoBGP sends :: as our next hop
	}
	if s.MinTTL > 0 {
		p.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: uint32(s.MinTTL)}
	} else if s.Interface == "" { // a workload is one hop away: GoBGP sends with a TTL of 1
		p.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: 255} // as Calico, always
	}
	return p
}

func apiFamily(a netip.Addr) *api.Family {
	if a.Is4() {
		return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	}
	return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
}

// apiFamilies returns the families of a session with a peer. GoBGP offers extended next hops (RFC 8950) in every session with IPv4.
func apiFamilies(peer netip.Addr) (list []*api.Family) {
	for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if calc.Carries(peer, a.Is4()) {
			list = append(list, apiFamily(a))
		}
	}
	return list
}

// apiPath makes GoBGP's form of a path of ours. Its next hop is unspecified: each session sends its own address.
func apiPath(prefix netip.Prefix, communities []string, mark uint32) (*api.Path, error) {
	attributes, err := apiAttributes(prefix.Addr().Is4(), communities, mark)
	if err != nil {
		return nil, err
	}
	return apiPathWith(prefix, attributes)
}

func apiPathWith(prefix netip.Prefix, attributes []*anypb.Any) (path *api.Path, err error) {
	if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("%v is not a network", prefix)
	}
	path = &api.Path{Family: apiFamily(prefix.Addr()), Pattrs: attributes}
	path.Nlri, err = anypb.New(&api.IPAddressPrefix{Prefix: prefix.Addr().String(), PrefixLen: uint32(prefix.Bits())})
	return path, err
}

// apiAttributes makes GoBGP's form of the attributes of a path of ours.
func apiAttributes(v4 bool, communities []string, mark uint32) (list []*anypb.Any, err error) {
	nextHop := netip.IPv6Unspecified()
	if v4 {
		nextHop = netip.IPv4Unspecified()
	}
	attributes := []proto.Message{
		&api.OriginAttribute{Origin: 0}, // IGP
		&api.NextHopAttribute{NextHop: nextHop.String()},
	}
	standard, large, err := parseCommunities(communities)
	if err != nil {
		return nil, err
	}
	preference := &api.LocalPrefAttribute{LocalPref: localPref} // GoBGP sends it to iBGP peers only
	if slices.Contains(standard, gracefulShutdown) {
		preference.LocalPref = 0 // the last choice
	}
	attributes = append(attributes, preference)
	if len(standard) > 0 {
		attributes = append(attributes, &api.CommunitiesAttribute{Communities: standard})
	}
	if mark != 0 {
		large = append(large, &api.LargeCommunity{GlobalAdmin: markAdmin, LocalData1: markKind, LocalData2: mark})
	}
	if len(large) > 0 {
		attributes = append(attributes, &api.LargeCommunitiesAttribute{Communities: large})
	}
	for _, a := range attributes {
		packed, err := anypb.New(a)
		if err != nil {
			return nil, err
		}
		list = append(list, packed)
	}
	return list, nil
}

// parseCommunities reads aa:nn (16 bits each) and aa:nn:mm (32 bits each).
func parseCommunities(list []string) (standard []uint32, large []*api.LargeCommunity, err error) {
	for _, text := range list {
		parts := strings.Split(text, ":")
		bits := 16
		if len(parts) == 3 {
			bits = 32
		}
		var n [3]uint32
		ok := len(parts) == 2 || len(parts) == 3
		for i := 0; ok && i < len(parts); i++ {
			v, err := strconv.ParseUint(parts[i], 10, bits)
			n[i], ok = uint32(v), err == nil
		}
		switch {
		case !ok:
			return nil, nil, fmt.Errorf("community %q is neither aa:nn nor aa:nn:mm; correct it in BGPConfiguration", text)
		case len(parts) == 2:
			standard = append(standard, n[0]<<16|n[1])
		default:
			large = append(large, &api.LargeCommunity{GlobalAdmin: n[0], LocalData1: n[1], LocalData2: n[2]})
		}
	}
	return standard, large, nil
}

// peerStateOf reads the state of a session from GoBGP's form of a peer.
func peerStateOf(p *api.Peer) peerState {
	state := peerState{State: stateName(p.GetState().GetSessionState())}
	state.Restarting = p.GetGracefulRestart().GetLocalRestarting()
	for _, af := range p.GetAfiSafis() {
		state.Received += int(af.GetState().GetReceived())
	}
	if state.State != established {
		return state
	}
	for _, family := range negotiated(p) {
		if family.GetAfi() == api.Family_AFI_IP {
			a, err := netip.ParseAddr(p.GetConf().GetNeighborAddress())
			state.Takes4 = err == nil && a.Is4() || takesIPv6Hops(p)
		} else {
			state.Takes6 = true
		}
	}
	return state
}

// takes says whether the capabilities of a peer include a family. A peer that names no family takes IPv4 (RFC 4760).
func takes(capabilities []*anypb.Any, family *api.Family) bool {
	named := false
	for _, c := range capabilities {
		var mp api.MultiProtocolCapability
		if !c.MessageIs(&mp) || c.UnmarshalTo(&mp) != nil {
			continue
		}
		if proto.Equal(mp.Family, family) {
			return true
		}
		named = true
	}
	return !named && family.GetAfi() == api.Family_AFI_IP
}

func stateName(s api.PeerState_SessionState) string {
	switch s {
	case api.PeerState_CONNECT:
		return "Connect"
	case api.PeerState_ACTIVE:
		return "Active"
	case api.PeerState_OPENSENT:
		return "OpenSent"
	case api.PeerState_OPENCONFIRM:
		return "OpenConfirm"
	case api.PeerState_ESTABLISHED:
		return established
	}
	return "Idle"
}

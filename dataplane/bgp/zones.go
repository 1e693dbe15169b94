package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	api "github.com/osrg/gobgp/v3/api"
)

// A session between link-local addresses is told from others by its interface, the zone of the peer's address. GoBGP v3 opens it by the
// whole address, but its events, its paths and its policies have lost the zone. zones finds the session again. If several sessions have
// the same address on different interfaces, the AS number and router id of the peer decide: GoBGP has these for each path.
type zones struct {
	mu       sync.Mutex
	sessions map[netip.Addr][]netip.Addr // by address without zone
	routers  map[netip.Addr]string       // AS number and router id, by session; of the sessions that share an address
}

func newZones() *zones {
	return &zones{sessions: map[netip.Addr][]netip.Addr{}, routers: map[netip.Addr]string{}}
}

func (z *zones) add(session netip.Addr) {
	if session.Zone() == "" {
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.sessions[session.WithZone("")] = append(z.sessions[session.WithZone("")], session)
}

func (z *zones) remove(session netip.Addr) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.routers, session)
	var rest []netip.Addr
	for _, other := range z.sessions[session.WithZone("")] {
		if other != session {
			rest = append(rest, other)
		}
	}
	if z.sessions[session.WithZone("")] = rest; rest == nil {
		delete(z.sessions, session.WithZone(""))
	}
}

func (z *zones) clear() {
	z.mu.Lock()
	defer z.mu.Unlock()
	clear(z.sessions)
	clear(z.routers)
}

// at returns the sessions with an address. An address that is not link-local is its own session.
func (z *zones) at(a netip.Addr) []netip.Addr {
	if !isLinkLocal(a) || a.Zone() != "" {
		return []netip.Addr{a}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	return append([]netip.Addr(nil), z.sessions[a]...)
}

// learn notes the router at the other end of a session. It returns another session with the same address and the same router: GoBGP
// cannot tell the routes of these two apart.
func (z *zones) learn(session netip.Addr, router string) (same netip.Addr) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.routers[session] = router
	for _, other := range z.sessions[session.WithZone("")] {
		if other != session && z.routers[other] == router {
			return other
		}
	}
	return netip.Addr{}
}

// find returns the session with a router at an address. It returns false if none is known, or several.
func (z *zones) find(a netip.Addr, router string) (session netip.Addr, found bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	all := z.sessions[a]
	if len(all) == 1 {
		return all[0], true
	}
	for _, s := range all {
		if z.routers[s] == router {
			if found {
				return netip.Addr{}, false
			}
			session, found = s, true
		}
	}
	return session, found
}

func isLinkLocal(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

func routerText(as uint32, id string) string { return fmt.Sprint(as, " ", id) }

// name gives the paths of an event or a table the whole addresses of their sessions. A path whose session is not known keeps the address
// that no session has.
func (g *gobgpServer) name(paths []*api.Path) {
	for _, path := range paths {
		if !strings.HasPrefix(path.GetNeighborIp(), "fe") {
			continue
		}
		a, err := netip.ParseAddr(path.GetNeighborIp())
		if err != nil || !isLinkLocal(a) {
			continue
		}
		router := routerText(path.GetSourceAsn(), path.GetSourceId())
		session, found := g.zones.find(a, router)
		if !found {
			g.readRouters(a)
			session, found = g.zones.find(a, router)
		}
		if found {
			path.NeighborIp = session.String()
		}
	}
}

// readRouters reads the routers at the other ends of the sessions with an address.
func (g *gobgpServer) readRouters(a netip.Addr) {
	for _, session := range g.zones.at(a) {
		if p := g.peer(session); p.GetState().GetSessionState() == api.PeerState_ESTABLISHED {
			g.zones.learn(session, routerText(p.GetState().GetPeerAsn(), p.GetState().GetRouterId()))
		}
	}
}

// peer returns GoBGP's form of a peer, or nil.
func (g *gobgpServer) peer(a netip.Addr) (found *api.Peer) {
	_ = g.bgp.ListPeer(context.Background(), &api.ListPeerRequest{Address: a.String()}, func(p *api.Peer) { found = p })
	return found
}

// heard hands on an event about a session. The event itself does not say which of several sessions with one link-local address it is
// about, so their states are read.
func (g *gobgpServer) heard(p *api.Peer) {
	a, err := netip.ParseAddr(p.GetConf().GetNeighborAddress())
	if err != nil {
		return
	}
	for _, session := range g.zones.at(a) {
		of := p
		if session != a {
			of = g.peer(session)
		}
		g.observe(g.eventOf(session, of))
	}
}

func (g *gobgpServer) eventOf(session netip.Addr, p *api.Peer) event {
	state := p.GetState()
	up := state.GetSessionState() == api.PeerState_ESTABLISHED
	e := event{Address: session, Up: up, Ends: 1}
	if up && session.Zone() != "" {
		e.Ends = len(negotiated(p))
		e.Same = g.zones.learn(session, routerText(state.GetPeerAsn(), state.GetRouterId()))
	}
	return e
}

// negotiated returns the families of a session that the peer has too.
func negotiated(p *api.Peer) (list []*api.Family) {
	for _, af := range p.GetAfiSafis() {
		if family := af.GetConfig().GetFamily(); takes(p.GetState().GetRemoteCap(), family) {
			list = append(list, family)
		}
	}
	return list
}

// takesIPv6Hops says whether a peer takes IPv4 routes with IPv6 next hops (RFC 8950).
func takesIPv6Hops(p *api.Peer) bool {
	for _, c := range p.GetState().GetRemoteCap() {
		var extended api.ExtendedNexthopCapability
		if !c.MessageIs(&extended) || c.UnmarshalTo(&extended) != nil {
			continue
		}
		for _, t := range extended.GetTuples() {
			if t.GetNlriFamily().GetAfi() == api.Family_AFI_IP && t.GetNlriFamily().GetSafi() == api.Family_SAFI_UNICAST &&
				t.GetNexthopFamily().GetAfi() == api.Family_AFI_IP6 {
				return true
			}
		}
	}
	return false
}

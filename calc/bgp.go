package calc

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

const (
	defaultAS          = 64512
	defaultBGPPort     = 179
	defaultRestartTime = 120 * time.Second

	// Each route of a peer takes about 2 kB of memory. A million of them is as many as the internet has, and as a machine without
	// other work for the memory can hold.
	defaultMaxPrefixes = 1_000_000
)

// bgpReader reads how this node's BGP speaker must be configured. routes.go makes its paths.
type bgpReader struct {
	node     string
	objects  objects
	def, own api.BGPConfigurationSpec // the configuration named default, and the node's
	bgp      BGP
	problems []Problem

	draining bool // its routes must be the last choice of peers
	drained  bool // it announces no routes

	refused map[netip.Addr]string // peers that get no session, by BGPPeers that ask for what is not possible: nobody may open a plainer one
	nodes   map[identity]string   // names of nodes; made when it is first needed
}

// readBGP reads the BGP settings of a node. Paths are not in it: they depend on the node's endpoints.
func readBGP(node string, o objects) *bgpReader {
	r := &bgpReader{node: node, objects: o, refused: map[netip.Addr]string{}}
	if c := named[api.BGPConfiguration](o, api.KindBGPConfiguration, "default"); c != nil {
		r.def = c.Spec
	}
	if c := named[api.BGPConfiguration](o, api.KindBGPConfiguration, "node."+node); c != nil {
		r.own = c.Spec
	}
	r.speaker()
	r.peers()
	r.mesh()
	r.unsupported()
	return r
}

// sessions are the agent's own with its peers. Either end may open one.
func (r *bgpReader) sessions() (all []Session) {
	for _, name := range slices.Sorted(maps.Keys(r.bgp.Peers)) {
		p := r.bgp.Peers[name]
		all = append(all,
			Session{Remote: p.Address, Port: p.Port, Outbound: true, Protocol: protocolTCP},
			Session{Remote: p.Address, Port: r.bgp.ListenPort, Protocol: protocolTCP})
	}
	return all
}

func (r *bgpReader) note(about api.Key, format string, args ...any) {
	r.problems = append(r.problems, Problem{Object: about, Text: fmt.Sprintf(format, args...)})
}

// speaker reads the node's own settings.
func (r *bgpReader) speaker() {
	r.bgp = BGP{AS: r.globalAS(), ListenPort: r.listenPort(r.node), Peers: map[string]Peer{}, Paths: map[netip.Prefix]Path{}}
	r.kernelRoutes()
	about := api.Key{Kind: api.KindNode, Name: r.node}
	n := named[api.Node](r.objects, api.KindNode, r.node)
	if n != nil {
		r.readDrain(about, n)
	}
	if n != nil && n.Spec.BGP != nil {
		spec := n.Spec.BGP
		if spec.ASNumber != nil {
			r.bgp.AS = uint32(*spec.ASNumber)
		}
		r.bgp.V4 = r.nodeAddress(about, "ipv4Address", spec.IPv4Address)
		r.bgp.V6 = r.nodeAddress(about, "ipv6Address", spec.IPv6Address)
		r.reflector(about, n)
	}
	r.shared(about)
	bind := cmp.Or(r.own.BindMode, r.def.BindMode)
	r.bgp.BindNodeIP = bind != nil && *bind == "NodeIP"
	r.bgp.RouterID = routerID(r.node, r.bgp.V4)
}

// shared notes the other nodes that have an address of this one.
func (r *bgpReader) shared(about api.Key) {
	others := map[netip.Addr][]string{}
	for key, u := range r.objects[api.KindNode] {
		n, ok := u.Object.(*api.Node)
		if !ok || u.Invalid != "" || n.Spec.BGP == nil || key.Name == r.node {
			continue
		}
		for _, text := range []string{n.Spec.BGP.IPv4Address, n.Spec.BGP.IPv6Address} {
			if p, err := api.ParseAddrNet(text); err == nil && (p.Addr() == r.bgp.V4.Addr() || p.Addr() == r.bgp.V6.Addr()) {
				others[p.Addr()] = append(others[p.Addr()], key.String())
			}
		}
	}
	for address, names := range others {
		slices.Sort(names)
		r.note(about, "%s has the address %v too, so peers cannot tell the nodes apart: correct spec.bgp of one of them",
			strings.Join(names, " and "), address)
	}
}

func (r *bgpReader) nodeAddress(about api.Key, field, text string) netip.Prefix {
	if text == "" {
		return netip.Prefix{}
	}
	p, err := api.ParseAddrNet(text)
	if err != nil {
		r.note(about, "%s: %v: correct it; until then the node speaks BGP without it", field, err)
	}
	return p
}

// routerID is the node's IPv4 address, or a number made from a hash of its name. It must be a unicast address (RFC 4271, section 6.2).
func routerID(node string, v4 netip.Prefix) netip.Addr {
	if v4.IsValid() {
		return v4.Addr()
	}
	sum := sha256.Sum256([]byte(node))
	id := [4]byte(sum[:4])
	if id[0] > 223 {
		id[0] -= 32
	}
	return netip.AddrFrom4(id)
}

func (r *bgpReader) globalAS() uint32 {
	if as := r.def.ASNumber; as != nil && *as != 0 {
		return uint32(*as)
	}
	return defaultAS
}

// listenPort is the port on which a node's speaker listens.
func (r *bgpReader) listenPort(node string) uint16 {
	if c := named[api.BGPConfiguration](r.objects, api.KindBGPConfiguration, "node."+node); c != nil && c.Spec.ListenPort != 0 {
		return c.Spec.ListenPort
	}
	if r.def.ListenPort != 0 {
		return r.def.ListenPort
	}
	return defaultBGPPort
}

// peers reads the BGPPeers of this node. Of several for the same address and port one is used: a global one before one for certain
// nodes, one that is for this node before one that has it as a peer in reverse, and then the first by name.
func (r *bgpReader) peers() {
	peers, keys := valid[api.BGPPeer](r.objects, api.KindBGPPeer)
	var all []candidate
	for _, reverse := range []bool{false, true} {
		for _, global := range []bool{true, false} {
			for i, p := range peers {
				if global != (p.Spec.Node == "" && p.Spec.NodeSelector == "") {
					continue
				}
				for _, peer := range r.sessionsOf(keys[i], p.Spec, reverse) {
					all = append(all, candidate{keys[i], global, p.Spec, peer})
				}
			}
		}
	}
	taken := map[netip.AddrPort]string{}
	for _, c := range r.withoutPlainer(all) {
		at := netip.AddrPortFrom(c.peer.Address, c.peer.Port)
		by, yes := taken[at]
		if yes && c.spec.PeerSelector == "" {
			r.note(c.key, "BGPPeer(%s) already peers with %v, so this one is not used: remove one of them", by, at)
		}
		if !yes {
			taken[at] = c.key.Name
			r.bgp.Peers[peerName(c.global, c.peer, c.spec)] = c.peer
		}
	}
}

// sessionsOf returns this node's sessions by a BGPPeer: with peerSelector one for each node and family, otherwise at most one.
func (r *bgpReader) sessionsOf(key api.Key, spec api.BGPPeerSpec, reverse bool) []Peer {
	switch {
	case spec.PeerSelector != "":
		return r.selectedPeers(key, spec, reverse)
	case reverse || !r.selected(key, spec):
		return nil
	}
	peer, ok := r.peer(key, spec)
	if !ok {
		return nil
	}
	return []Peer{peer}
}

// selected reports whether a BGPPeer is for this node.
func (r *bgpReader) selected(key api.Key, spec api.BGPPeerSpec) bool {
	if spec.Node != "" {
		return spec.Node == r.node
	}
	if spec.NodeSelector == "" {
		return true
	}
	s, err := selector.Parse(spec.NodeSelector)
	if err != nil {
		r.note(key, "nodeSelector: %v; it is used on no node: correct it", err)
		return false
	}
	n := named[api.Node](r.objects, api.KindNode, r.node)
	return n != nil && s.Matches(selector.Map(n.Labels))
}

// peer reads one BGPPeer. It reports false if there is no session with the peer, and notes why.
func (r *bgpReader) peer(key api.Key, spec api.BGPPeerSpec) (Peer, bool) {
	if why := impossible(spec); why != "" {
		r.note(key, "%s", why)
		if at, err := parsePeerIP(spec.PeerIP); err == nil {
			r.refused[at.Addr()] = key.Name
		}
		return Peer{}, false
	}
	at, err := parsePeerIP(spec.PeerIP)
	if err != nil {
		r.note(key, "%v; until then there is no session with this peer", err)
		return Peer{}, false
	}
	if spec.ASNumber == 0 {
		r.note(key, "has no asNumber, so there is no session with it: give the peer's")
		r.refused[at.Addr()] = key.Name
		return Peer{}, false
	}
	if at.Addr() == r.bgp.V4.Addr() || at.Addr() == r.bgp.V6.Addr() {
		return Peer{}, false // a global BGPPeer may name the node itself
	}
	p := Peer{
		Object: key.Name, Address: at.Addr(), Port: at.Port(), AS: uint32(spec.ASNumber), RestartTime: defaultRestartTime, MaxPrefixes: defaultMaxPrefixes,
	}
	if name, known := r.nodeOf(p); known {
		p.Node, p.Passive = name, isPassive(r.addressFor(p.Address), p.Address)
	}
	if p.Port == 0 {
		p.Port = r.portOf(p)
	}
	if spec.LocalASNumber != nil {
		p.LocalAS = uint32(*spec.LocalASNumber)
	}
	if n := spec.NumAllowedLocalASNumbers; n != nil {
		p.AllowOwnAS = uint8(min(max(*n, 0), math.MaxUint8))
	}
	r.applySpec(&p, spec)
	r.applyPolicy(key, spec, &p)
	r.partly(key, spec)
	return p, true
}

// applySpec sets the fields of a session that a BGPPeer gives to every peer that it names or selects.
func (r *bgpReader) applySpec(p *Peer, spec api.BGPPeerSpec) {
	if spec.SourceAddress != "None" {
		p.Source = r.addressFor(p.Address)
	}
	if spec.MaxRestartTime != nil {
		p.RestartTime = spec.MaxRestartTime.Duration
	}
	if spec.KeepaliveTime != nil {
		p.Keepalive = spec.KeepaliveTime.Duration
	}
	if spec.TTLSecurity != nil {
		p.TTLSecurity = *spec.TTLSecurity
	}
	if spec.MaxPrefixes != nil {
		p.MaxPrefixes = *spec.MaxPrefixes
	}
	p.Password, _ = readPassword(spec.Password) // impossible has checked it
}

// impossible says why a BGPPeer gets no session. It is empty if the BGPPeer asks only for what is possible.
func impossible(spec api.BGPPeerSpec) string {
	if field, instead := unsupportedPeer(spec); field != "" {
		return fmt.Sprintf("%s is not supported yet, so there is no session with it: %s", field, instead)
	}
	if _, err := readPassword(spec.Password); err != nil {
		return fmt.Sprintf("%v; until then there is no session with it", err)
	}
	return ""
}

// unsupportedPeer names a field that is not supported and must not be ignored, and what to do.
func unsupportedPeer(spec api.BGPPeerSpec) (field, instead string) {
	switch {
	case spec.LocalWorkloadSelector != "":
		return "localWorkloadSelector", "name each peer by peerIP"
	case spec.ReachableBy != "":
		return "reachableBy", "add a route to the peer and remove it"
	}
	return "", ""
}

// partly notes the fields that are not supported and that a session can do without.
func (r *bgpReader) partly(key api.Key, spec api.BGPPeerSpec) {
	if n := spec.NumAllowedLocalASNumbers; n != nil && *n > 0 && spec.PeerIP == "" {
		r.note(key, "numAllowedLocalASNumbers counts only with peerIP, so routes with the node's own AS are not accepted: remove it")
	}
	if as := spec.LocalASNumber; as != nil && spec.PeerIP == "" {
		r.note(key, "localASNumber counts only with peerIP, so the sessions have the node's own AS number: remove it")
	}
}

// parsePeerIP reads an address, V4:PORT or [V6]:PORT; the port is 0 when it is not given.
func parsePeerIP(text string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a.Unmap(), 0), nil
	}
	if ap, err := netip.ParseAddrPort(text); err == nil && ap.Port() != 0 {
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
	}
	return netip.AddrPort{}, fmt.Errorf("peerIP %q is no address: write it like 10.0.0.1, 10.0.0.1:1179 or [fd00::1]:1179", text)
}

// portOf is the port of a peer that is given without one. If the peer is a node of the datastore it is the node's listenPort.
func (r *bgpReader) portOf(p Peer) uint16 {
	if p.Node != "" {
		return r.listenPort(p.Node)
	}
	return defaultBGPPort
}

// nodeOf finds the node that a peer is.
func (r *bgpReader) nodeOf(p Peer) (name string, known bool) {
	if r.nodes == nil {
		r.nodes = r.nodesByAddress()
	}
	name, known = r.nodes[identity{p.Address, p.AS}]
	return name, known
}

// addressFor returns this node's address of the family of a peer.
func (r *bgpReader) addressFor(peer netip.Addr) netip.Addr {
	if peer.Is6() {
		return r.bgp.V6.Addr()
	}
	return r.bgp.V4.Addr()
}

// identity is how a node is recognised as a peer.
type identity struct {
	address netip.Addr
	as      uint32
}

// nodesByAddress finds nodes by address and AS; of several the first by name.
func (r *bgpReader) nodesByAddress() map[identity]string {
	found := map[identity]string{}
	for key, u := range r.objects[api.KindNode] {
		n, ok := u.Object.(*api.Node)
		if !ok || u.Invalid != "" || n.Spec.BGP == nil {
			continue
		}
		as := r.globalAS()
		if n.Spec.BGP.ASNumber != nil {
			as = uint32(*n.Spec.BGP.ASNumber)
		}
		for _, text := range []string{n.Spec.BGP.IPv4Address, n.Spec.BGP.IPv6Address} {
			a, err := api.ParseAddrNet(text)
			if err != nil {
				continue
			}
			at := identity{a.Addr(), as}
			if other, taken := found[at]; !taken || key.Name < other {
				found[at] = key.Name
			}
		}
	}
	return found
}

// peerName is the name of a session, as Calico forms it: Global_10_0_0_1, Node_fd00__1_port_1179.
func peerName(global bool, p Peer, spec api.BGPPeerSpec) string {
	kind := "Node_"
	if global {
		kind = "Global_"
	}
	name := kind + dashed(p.Address)
	if at, err := parsePeerIP(spec.PeerIP); err == nil && at.Port() != 0 {
		name += fmt.Sprintf("_port_%d", at.Port())
	}
	return name
}

// unsupported notes the settings of BGPConfiguration that are not supported yet.
func (r *bgpReader) unsupported() {
	about := api.Key{Kind: api.KindBGPConfiguration, Name: "default"}
	if len(r.def.ServiceClusterIPs)+len(r.def.ServiceExternalIPs)+len(r.def.ServiceLoadBalancerIPs) > 0 {
		r.note(about, "ranges of service addresses are not announced yet: announce them from a router")
	}
}

// communities are those that prefixAdvertisements attach to a path: values as they are written, names replaced by their values.
func (r *bgpReader) communities(of netip.Prefix) (values []string) {
	config := r.def
	if len(r.own.PrefixAdvertisements) > 0 {
		config = r.own
	}
	for _, a := range config.PrefixAdvertisements {
		n, err := api.ParseNet(a.CIDR)
		if err != nil || n.Addr().Is4() != of.Addr().Is4() || n.Bits() > of.Bits() || !n.Contains(of.Addr()) {
			continue
		}
		for _, c := range a.Communities {
			if value := communityNamed(c, config, r.def); !slices.Contains(values, value) {
				values = append(values, value)
			}
		}
	}
	if r.draining && !slices.Contains(values, gracefulShutdown) {
		values = append(values, gracefulShutdown)
	}
	return values
}

func communityNamed(name string, configs ...api.BGPConfigurationSpec) string {
	for _, config := range configs {
		for _, c := range config.Communities {
			if c.Name == name {
				return c.Value
			}
		}
	}
	return name
}

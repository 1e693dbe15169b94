package calc

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

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

// sessionsOf returns this node's sessions by a BGPPeer: with peerSelector one for each node and family, otherwise at most one. Those with
// workloads of the node come later, see workloadPeers.
func (r *bgpReader) sessionsOf(key api.Key, spec api.BGPPeerSpec, reverse bool) []Peer {
	switch {
	case spec.PeerSelector != "":
		return r.selectedPeers(key, spec, reverse)
	case reverse || !r.selected(key, spec):
		return nil
	case spec.LocalWorkloadSelector != "":
		r.readWorkloadPeering(key, spec)
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
	if why := r.notOnLink(at.Addr()); why != "" {
		r.note(key, "%s", why)
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
	p.Gateway, _ = readGateway(spec) // impossible has checked it
	r.applySpec(&p, spec)
	r.applyPolicy(key, spec, &p)
	r.partly(key, spec)
	return p, true
}

// applySpec sets the fields of a session that a BGPPeer gives to every peer that it names or selects.
func (r *bgpReader) applySpec(p *Peer, spec api.BGPPeerSpec) {
	if spec.SourceAddress != "None" && p.Address.Zone() == "" { // a link-local peer is reached from the link-local address of the interface
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
	if _, err := readPassword(spec.Password); err != nil {
		return fmt.Sprintf("%v; until then there is no session with it", err)
	}
	if _, err := readGateway(spec); err != nil {
		return fmt.Sprintf("%v; until then there is no session with it", err)
	}
	return ""
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

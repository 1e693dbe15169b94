package calc

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
)

// readGateway reads the gateway by which a peer is reached. It is invalid if the BGPPeer names none. A gateway that cannot be used is an
// error: it never means that any way to the peer will do.
func readGateway(spec api.BGPPeerSpec) (netip.Addr, error) {
	if spec.ReachableBy == "" {
		return netip.Addr{}, nil
	}
	at, err := parsePeerIP(spec.PeerIP)
	if spec.PeerIP == "" || err != nil {
		return netip.Addr{}, errors.New("reachableBy needs peerIP, the address of one peer: give it, or remove reachableBy")
	}
	by, err := api.ParseAddr(spec.ReachableBy)
	switch peer := at.Addr(); {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("reachableBy: %w: correct it", err)
	case by.Is4() != peer.Is4():
		return netip.Addr{}, fmt.Errorf("reachableBy %v is not of the family of peerIP %v: correct one of them", by, peer)
	case by == peer || peer.IsLinkLocalUnicast():
		return netip.Addr{}, fmt.Errorf("peerIP %v needs no gateway to be reached: remove reachableBy", peer)
	case by.IsLinkLocalUnicast():
		return netip.Addr{}, fmt.Errorf("reachableBy %v is link-local, and so does not tell the interface: give a global address of the gateway", by)
	case by.IsLoopback() || by.IsUnspecified() || by.IsMulticast():
		return netip.Addr{}, fmt.Errorf("reachableBy %v is the address of no gateway: correct it", by)
	}
	return by, nil
}

// PeerRoutes returns the routes to those of some peers, by name, that are reached by a gateway. Of several peers with one address, the first by
// name decides.
func PeerRoutes(peers map[string]Peer) map[netip.Prefix]Route {
	found := map[netip.Prefix]Route{}
	for _, name := range slices.Sorted(maps.Keys(peers)) {
		p := peers[name]
		if !p.Gateway.IsValid() {
			continue
		}
		if _, there := found[host(p.Address)]; !there {
			found[host(p.Address)] = Route{Kind: ToPeer, Peer: p.Object, Gateway: p.Gateway}
		}
	}
	return found
}

// preferPeer has packets to a BGP peer take the way by its gateway, also if an endpoint of another node has its address. The guard refuses
// such an endpoint of this node.
func (f *fleet) preferPeer(p netip.Prefix, d *destination) {
	r, yes := f.peers[p]
	if !yes {
		return
	}
	if d.routed {
		d.about = api.Key{Kind: api.KindBGPPeer, Name: r.Peer}
		d.problem = fmt.Sprintf("peerIP %v is also the address of a workload of Node(%s), and packets to it go by reachableBy %v to the peer: "+
			"correct the address of one of them", p.Addr(), d.route.Node, r.Gateway)
	}
	d.route, d.routed = r, true
}

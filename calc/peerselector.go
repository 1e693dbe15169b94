package calc

import (
	"fmt"
	"net/netip"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

// selectedPeers returns this node's sessions by a BGPPeer with peerSelector: with each node that peerSelector selects, if the
// BGPPeer is for this node. In reverse, a node that peerSelector selects has a session with each node that the BGPPeer is for,
// unless reversePeering is Manual. Problems are noted in the first of the two cases that applies, so each is noted once.
func (r *bgpReader) selectedPeers(key api.Key, spec api.BGPPeerSpec, reverse bool) (peers []Peer) {
	users, selected, err := peersBySelector(spec)
	if err != nil {
		if !reverse {
			r.note(key, "%v; there is no session by it: correct it", err)
		}
		return nil
	}
	own := named[api.Node](r.objects, api.KindNode, r.node)
	if own == nil {
		return nil
	}
	uses, others := users(r.node, own), selected
	if reverse {
		if !selected(r.node, own) || spec.ReversePeering != nil && *spec.ReversePeering == "Manual" {
			return nil
		}
		others = users
	} else if !uses {
		return nil
	}
	first := !reverse || !uses
	why := impossible(spec)
	if why != "" && first {
		r.note(key, "%s", why)
	}
	nodes, keys := valid[api.Node](r.objects, api.KindNode)
	for i, n := range nodes {
		if keys[i].Name == r.node || !others(keys[i].Name, n) {
			continue
		}
		for _, e := range r.sharedFamilies(n) {
			if why != "" {
				r.refused[e.peer] = key.Name
				continue
			}
			p := r.nodePeer(keys[i].Name, n, e.own, e.peer)
			p.Object, p.Source = key.Name, netip.Addr{}
			r.applySpec(&p, spec)
			r.applyPolicy(key, spec, &p)
			peers = append(peers, p)
		}
	}
	if first && why == "" {
		r.partly(key, spec)
	}
	return peers
}

// peersBySelector returns the nodes that a BGPPeer is for, and those that it selects as peers.
func peersBySelector(spec api.BGPPeerSpec) (users, selected func(name string, n *api.Node) bool, err error) {
	peerSelector, err := selector.Parse(spec.PeerSelector)
	if err != nil {
		return nil, nil, fmt.Errorf("peerSelector: %w", err)
	}
	selected = func(_ string, n *api.Node) bool { return peerSelector.Matches(selector.Map(n.Labels)) }
	switch {
	case spec.Node != "":
		users = func(name string, _ *api.Node) bool { return name == spec.Node }
	case spec.NodeSelector != "":
		nodeSelector, err := selector.Parse(spec.NodeSelector)
		if err != nil {
			return nil, nil, fmt.Errorf("nodeSelector: %w", err)
		}
		users = func(_ string, n *api.Node) bool { return nodeSelector.Matches(selector.Map(n.Labels)) }
	default:
		users = func(string, *api.Node) bool { return true }
	}
	return users, selected, nil
}

package calc

import (
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
)

// clusterID is the cluster of a route reflector (RFC 4456). It is invalid for other nodes.
func clusterID(n *api.Node) netip.Addr {
	if n == nil || n.Spec.BGP == nil {
		return netip.Addr{}
	}
	id, err := netip.ParseAddr(n.Spec.BGP.RouteReflectorClusterID)
	if err != nil || !id.Is4() {
		return netip.Addr{}
	}
	return id
}

// reflector reads whether this node reflects routes.
func (r *bgpReader) reflector(about api.Key, n *api.Node) {
	r.bgp.ClusterID = clusterID(n)
	if text := n.Spec.BGP.RouteReflectorClusterID; text != "" && !r.bgp.ClusterID.IsValid() {
		r.note(about, "routeReflectorClusterID %q is not written like an IPv4 address, so the node reflects no routes: correct it", text)
	}
}

// applyPolicy sets what depends on the routes of a session: its filters, its next hops, and whether the peer is a client of this
// reflector. Clients are peers in the same AS that do not reflect routes for the same cluster.
func (r *bgpReader) applyPolicy(key api.Key, spec api.BGPPeerSpec, p *Peer) {
	p.Filters = r.filters(key, spec, *p)
	p.Client = r.bgp.ClusterID.IsValid() && !r.external(*p) && clusterID(named[api.Node](r.objects, api.KindNode, p.Node)) != r.bgp.ClusterID
	switch mode := spec.NextHopMode; {
	case mode != nil && *mode != "Auto":
		p.NextHop = *mode
	case mode == nil && spec.KeepOriginalNextHop && r.external(*p):
		p.NextHop = "Keep"
	}
}

// transit returns rules for the routes of peers that a reflector passes on, and for those of its workloads that any node passes on: those
// inside of announced pools. Of several pools around a route, the smallest decides. A drained node passes on none: like its own routes,
// they could lead through it.
func (r *bgpReader) transit(s space) (rules []RouteRule) {
	if !r.bgp.ClusterID.IsValid() && len(r.peering()) == 0 || r.drained {
		return nil
	}
	for _, cidr := range sortedPrefixes(s.pools) {
		rules = append(rules, RouteRule{Within: cidr, Shortest: cidr.Bits(), Longest: cidr.Addr().BitLen(), Accept: s.exports(cidr)})
	}
	slices.SortStableFunc(rules, func(a, b RouteRule) int { return b.Shortest - a.Shortest })
	return rules
}

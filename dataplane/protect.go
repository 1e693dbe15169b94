package dataplane

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// protectedPrefix is an address or network that no route of a peer may replace, and the reason.
type protectedPrefix struct {
	prefix netip.Prefix
	why    string
	// exact is for addresses and blocks to which this node has routes of its own: these win over the routes of larger networks.
	// Other addresses are reached by routes that others made, so no network that contains them is accepted either.
	exact bool
	peer  bool // the address of a BGP peer: the route to it by its gateway is the only one that may replace others
}

// protectedPrefixes returns the addresses of this host, its workloads, etcd and BGP peers, and the blocks of this node.
func (d *Driver) protectedPrefixes() (list []protectedPrefix) {
	protect := func(p netip.Prefix, why string, exact bool) {
		if p.IsValid() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			list = append(list, protectedPrefix{prefix: p.Masked(), why: why, exact: exact})
		}
	}
	single := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a.WithZone(""), a.BitLen()) }
	for id, e := range d.state.Endpoints {
		for _, a := range e.Addresses {
			route, routed := d.state.Routes[single(a)]
			if id.Kind == api.KindWorkloadEndpoint && (!routed || route.Kind != calc.LocalWorkload) {
				continue // an older endpoint of another node has the address too, and the traffic goes there
			}
			protect(single(a), "an address of "+id.Kind+" "+id.Name, true)
		}
	}
	for _, a := range d.plan.links.Addresses() {
		protect(single(a), "an address of this host", true)
	}
	for _, a := range d.uplinks.etcd {
		protect(single(a), "an address of etcd", false)
	}
	list = append(list, d.protectPeers(d.state.BGP.Peers)...)
	if d.resumed != nil {
		list = append(list, d.protectPeers(d.resumed.bgp.Peers)...)
		for _, prefix := range d.resumed.routes {
			protect(prefix, "a route of the former felix", true)
		}
	}
	for prefix, route := range d.state.Routes {
		if route.Kind == calc.BlockHole {
			protect(prefix, "a block of this node", true)
		}
	}
	slices.SortFunc(list, func(a, b protectedPrefix) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()), cmp.Compare(a.why, b.why))
	})
	return slices.Compact(list)
}

// protectAnew has the next pass look at the protectedPrefixes again. It is for changes that the plan does not depend on.
func (d *Driver) protectAnew() {
	for _, l := range d.byOtherHosts() {
		l.serial = 0
	}
}

// covered finds a protectedPrefix that forbids a prefix. A smaller prefix inside of a protected block is fine: it is the address of a
// workload that has moved.
func (l *hopRoutes) covered(prefix netip.Prefix) (protectedPrefix, bool) {
	at, _ := slices.BinarySearchFunc(l.protected, prefix.Addr(), func(r protectedPrefix, a netip.Addr) int { return r.prefix.Addr().Compare(a) })
	for _, r := range l.protected[at:] {
		if !prefix.Contains(r.prefix.Addr()) {
			break
		}
		if r.peer && l.forPeers {
			continue
		}
		if prefix == r.prefix || !r.exact && prefix.Bits() <= r.prefix.Bits() {
			return r, true
		}
	}
	return protectedPrefix{}, false
}

// protectPeers returns the addresses of BGP peers and their gateways as protectedPrefixes. The route to a peer by its gateway wins over those of
// larger networks.
func (d *Driver) protectPeers(peers map[string]calc.Peer) (list []protectedPrefix) {
	protect := func(a netip.Addr, p protectedPrefix) {
		if a.IsValid() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			p.prefix = netip.PrefixFrom(a.WithZone(""), a.BitLen())
			_, routed := d.toPeers.inKernel[p.prefix]
			p.exact = p.peer && routed
			list = append(list, p)
		}
	}
	for _, p := range peers {
		if p.IsWorkload() {
			continue // it is an endpoint of this node, with a route of its own
		}
		protect(p.Address, protectedPrefix{why: "the address of a BGP peer", peer: true})
		protect(p.Gateway, protectedPrefix{why: "the address of the gateway to a BGP peer"})
	}
	return list
}

package calc

import (
	"fmt"
	"net/netip"

	"github.com/margay-project/margay/api"
)

// way has the addresses at which another node is reached without a router; invalid for a family in which it is not.
type way struct{ v4, v6 netip.Addr }

func (w way) of(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return w.v4
	}
	return w.v6
}

// wayReader finds the ways to the other nodes: those whose address is in the network of this node's address of the same family.
// Packets to a node in another network need a router, which only BGP can tell about the blocks.
type wayReader struct {
	node     string
	objects  objects
	bgp      BGP
	own      map[netip.Addr]bool   // addresses of this host
	held     func(netip.Addr) bool // whether a workload has an address
	ways     map[string]way
	takenBy  map[netip.Addr]string // addresses of nodes, by the node that has them
	asked    map[netip.Addr]bool   // addresses of nodes: the result depends on whether a workload has one
	problems []Problem
}

// readWays returns the ways to other nodes, without any unless programClusterRoutes asks for routes to them.
func readWays(node string, o objects, c Config, facts Facts, bgp BGP, held func(netip.Addr) bool) *wayReader {
	r := &wayReader{
		node: node, objects: o, bgp: bgp, held: held,
		own: map[netip.Addr]bool{}, ways: map[string]way{}, takenBy: map[netip.Addr]string{}, asked: map[netip.Addr]bool{},
	}
	r.problems = routeless(bgp, c)
	if !c.ClusterRoutes {
		return r
	}
	for _, a := range facts.Addresses {
		r.own[a.Unmap().WithZone("")] = true
	}
	nodes, keys := valid[api.Node](o, api.KindNode)
	lacks4, lacks6 := false, false
	for i, n := range nodes {
		if keys[i].Name == node {
			continue
		}
		v4, v6 := nodeAddresses(n)
		if !v4.IsValid() && !v6.IsValid() {
			r.note(keys[i], "has no address, so no route leads to its workloads: give it spec.bgp.ipv4Address or ipv6Address")
		}
		w := way{r.reach(keys[i], v4, bgp.V4), r.reach(keys[i], v6, bgp.V6)}
		lacks4, lacks6 = lacks4 || v4.IsValid(), lacks6 || v6.IsValid()
		if w != (way{}) {
			r.ways[keys[i].Name] = w
		}
	}
	r.checkOwn("ipv4Address", bgp.V4, lacks4)
	r.checkOwn("ipv6Address", bgp.V6, lacks6)
	return r
}

func (r *wayReader) note(about api.Key, format string, args ...any) {
	r.problems = append(r.problems, Problem{Object: about, Text: fmt.Sprintf(format, args...)})
}

// nodeAddresses returns a node's addresses: those of spec.bgp, otherwise the first of each family in spec.addresses.
func nodeAddresses(n *api.Node) (v4, v6 netip.Addr) {
	texts := []string{}
	if n.Spec.BGP != nil {
		texts = append(texts, n.Spec.BGP.IPv4Address, n.Spec.BGP.IPv6Address)
	}
	for _, a := range n.Spec.Addresses {
		texts = append(texts, a.Address)
	}
	for _, text := range texts {
		p, err := api.ParseAddrNet(text)
		switch {
		case err != nil:
		case p.Addr().Is4() && !v4.IsValid():
			v4 = p.Addr()
		case p.Addr().Is6() && !v6.IsValid():
			v6 = p.Addr()
		}
	}
	return v4, v6
}

// checkOwn notes that this node's own address of a family does not tell its network, although other nodes have such addresses.
func (r *wayReader) checkOwn(field string, own netip.Prefix, others bool) {
	about := api.Key{Kind: api.KindNode, Name: r.node}
	switch {
	case !others || own.IsValid() && !own.IsSingleIP():
	case own.IsValid():
		r.note(about, "%s %v has no network, so no route leads to workloads of other nodes: write it with the prefix length of its network",
			field, own.Addr())
	case field == "ipv4Address" || r.bgp.V4 == netip.Prefix{}: // IPv6 is optional beside IPv4
		r.note(about, "has no %s, so no route of this family leads to workloads of other nodes: give it with the prefix length of its network", field)
	}
}

// reach returns the address of a node if packets can be sent there without a router. Otherwise it notes why they cannot.
func (r *wayReader) reach(about api.Key, a netip.Addr, own netip.Prefix) netip.Addr {
	if !a.IsValid() || !own.IsValid() || own.IsSingleIP() {
		return netip.Addr{}
	}
	const consequence = "so no route leads to its workloads: correct its address"
	r.asked[a] = true
	switch {
	case a == own.Addr() || r.own[a]:
		r.note(about, "has the address %v of this host, %s", a, consequence)
	case a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast():
		r.note(about, "has the address %v, which is no node's, %s", a, consequence)
	case r.held(a):
		r.note(about, "has the address %v of a workload, %s, or that of the workload", a, consequence)
	case !own.Masked().Contains(a):
		if !r.spoken(about.Name, a) {
			r.note(about, "has the address %v outside of %v, and no BGP session tells the way there, so no route leads to its workloads: "+
				"let the nodes speak BGP, with each other or with a router, or correct the prefix length", a, own.Masked())
		}
	default:
		if by, taken := r.takenBy[a]; taken {
			r.note(about, "has the address %v of Node(%s) too, so packets to workloads of one of them go to the other: correct spec.bgp of one", a, by)
		}
		r.takenBy[a] = about.Name
		return a
	}
	return netip.Addr{}
}

// spoken reports whether a BGP session may tell the way to a node: one with the node, or with a router.
func (r *wayReader) spoken(node string, a netip.Addr) bool {
	for _, p := range r.bgp.Peers {
		if p.Address.Is4() == a.Is4() && (p.Node == node || p.Node == "") {
			return true
		}
	}
	return false
}

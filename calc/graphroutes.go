package calc

import (
	"encoding/binary"
	"maps"
	"net/netip"

	"github.com/margay-project/margay/api"
)

// marks holds the prefixes whose destination may have changed. Graph decides only about these.
type marks struct {
	touched   map[netip.Prefix]struct{} // to be decided again; updateRoutes empties it
	local     map[netip.Addr]EndpointID // this node's endpoints in force, by address; set by locate, reset by unlocate
	contested map[netip.Prefix]api.Key  // the objects with a problem about an address of theirs
}

func newMarks() marks {
	return marks{touched: map[netip.Prefix]struct{}{}, local: map[netip.Addr]EndpointID{}, contested: map[netip.Prefix]api.Key{}}
}

// locate notes the addresses of an endpoint of this node, unlocate forgets them. Both mark the routes to them.
func (g *Graph) locate(e Endpoint) {
	if e.ID.Kind == api.KindWorkloadEndpoint && e.Closed == "" {
		for _, a := range e.Addresses {
			g.marks.local[a] = e.ID
		}
		g.touchAddresses(e.Addresses)
	}
}

func (g *Graph) unlocate(e Endpoint) {
	if e.ID.Kind == api.KindWorkloadEndpoint && e.Closed == "" {
		for _, a := range e.Addresses {
			delete(g.marks.local, a)
		}
		g.touchAddresses(e.Addresses)
	}
}

// touch marks a prefix. It does nothing if all prefixes are to be decided again anyway.
func (g *Graph) touch(p netip.Prefix) {
	if !g.pending.space {
		g.marks.touched[p] = struct{}{}
	}
}

func (g *Graph) touchAddresses(addresses []netip.Addr) {
	for _, a := range addresses {
		g.touch(host(a))
		if g.ways != nil && g.ways.asked[a] {
			g.pending.ways = true
		}
	}
}

// touchBlock marks a block and the addresses of endpoints in it.
func (g *Graph) touchBlock(block netip.Prefix) {
	g.touch(block)
	if g.pending.space {
		return
	}
	inside := func(b span) {
		for _, o := range g.entities.holders.spans[b] {
			for _, a := range singles(g.entities.list[o.entity].contribution()) {
				if block.Contains(a) {
					g.touch(host(a))
				}
			}
		}
	}
	first, hostBits := spanOf(block.Addr()), block.Addr().BitLen()-block.Bits()
	if hostBits-spanBits > 10 { // larger than any block should be
		for b := range g.entities.holders.spans {
			inside(b)
		}
		return
	}
	for n := range uint32(1) << max(hostBits-spanBits, 0) {
		b := first
		binary.BigEndian.PutUint32(b[12:], binary.BigEndian.Uint32(b[12:])+n<<spanBits)
		inside(b)
	}
}

// touchAll marks every prefix that has a destination or may have one: blocks, this node's addresses, those of BGP peers, and the addresses of
// other nodes' endpoints outside of the blocks of their nodes.
func (g *Graph) touchAll() {
	all := g.marks.touched
	for p := range g.routes.now {
		all[p] = struct{}{}
	}
	for p := range g.paths.now {
		all[p] = struct{}{}
	}
	for p := range g.marks.contested {
		all[p] = struct{}{}
	}
	for a := range g.marks.local {
		all[host(a)] = struct{}{}
	}
	for _, b := range g.space.blocks {
		all[b] = struct{}{}
	}
	for p := range g.bgp.routes {
		all[p] = struct{}{}
	}
	if len(g.ways.ways) == 0 {
		return // nothing else can have a route
	}
	for b := range g.blocks.owner {
		all[b.unpack()] = struct{}{}
	}
	for b, list := range g.entities.holders.spans {
		owner, whole := g.blocks.ownerOfSpan(b)
		for _, o := range list {
			if whole && g.entities.holders.nodes[o.node] == owner {
				continue
			}
			for _, a := range singles(g.entities.list[o.entity].contribution()) {
				all[host(a)] = struct{}{}
			}
		}
	}
}

// ownerOfSpan returns the node of the block that contains a whole span. It returns false if there is none, or if smaller blocks
// than a span exist.
func (b *blockOwners) ownerOfSpan(of span) (node string, whole bool) {
	for length := range b.lengths {
		if length > 128-spanBits {
			return "", false
		}
	}
	_, node, whole = b.around(netip.AddrFrom16(of).Unmap())
	return node, whole
}

// readWays finds the ways to other nodes again. If one has changed, every prefix is decided again.
func (g *Graph) readWays() {
	before := g.ways
	g.ways = readWays(g.node, g.objects, g.config.Config, g.facts, g.bgp.bgp, func(a netip.Addr) bool { return len(g.holdersOf(a)) > 0 })
	g.problems.setAll("ways", g.ways.problems)
	if before == nil || !maps.Equal(before.ways, g.ways.ways) {
		g.pending.space = true
	}
}

func (g *Graph) fleet() *fleet {
	return &fleet{
		node: g.node, ways: g.ways.ways, space: &g.space, peers: g.bgp.routes, owner: g.blocks.of, around: g.blocks.around, holders: g.holdersOf,
		known: func(node string) bool { return g.objects.has(api.Key{Kind: api.KindNode, Name: node}) },
		local: func(a netip.Addr) (Endpoint, bool) {
			id, there := g.marks.local[a]
			return g.local.sent.now[id], there
		},
	}
}

// updateRoutes decides about the marked prefixes: their routes, paths and problems.
func (g *Graph) updateRoutes() {
	if g.pending.space {
		g.touchAll()
	}
	f := g.fleet()
	for p := range g.marks.touched {
		d := f.decide(p)
		if d.routed {
			g.routes.set(p, d.route)
		} else {
			g.routes.remove(p)
		}
		if d.told && !g.bgp.drained {
			d.path.Communities = g.bgp.communities(p)
			g.paths.set(p, d.path)
		} else {
			g.paths.remove(p)
		}
		g.contest(p, d)
		g.noteLocal(p)
	}
	g.marks.touched = emptied(g.marks.touched)
}

// contest replaces the problem about an address that endpoints of several nodes have, or an endpoint and a BGP peer.
func (g *Graph) contest(p netip.Prefix, d destination) {
	reading := "address " + p.String()
	if about, was := g.marks.contested[p]; was {
		g.problems.set(about, reading)
		delete(g.marks.contested, p)
	}
	if d.problem != "" {
		g.problems.set(d.about, reading, d.problem)
		g.marks.contested[p] = d.about
	}
}

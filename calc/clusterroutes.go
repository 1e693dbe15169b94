package calc

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/margay-project/margay/api"
)

// fleet is all that decides where packets to an address go. Compute and Graph differ only in how they look things up.
type fleet struct {
	node    string
	ways    map[string]way // to other nodes, see readWays
	space   *space
	peers   map[netip.Prefix]Route                                   // to BGP peers, by their gateways
	known   func(node string) bool                                   // whether the node has a Node object
	local   func(netip.Addr) (Endpoint, bool)                        // this node's endpoint with an address, in force
	holders func(netip.Addr) []holder                                // endpoints of all nodes with an address
	owner   func(block netip.Prefix) (node string, there bool)       // of a block of any node
	around  func(netip.Addr) (b netip.Prefix, node string, yes bool) // the smallest block that contains an address
}

// destination says whether a prefix needs a route of the kernel, and whether it is announced.
type destination struct {
	route   Route
	path    Path
	routed  bool
	told    bool    // path is announced
	about   api.Key // of problem
	problem string
}

// decide returns what a prefix needs. A block of this node gets a black hole: packets to an address that no workload has must not leave
// the node by its default route. It is there while the node owns the block, announced or not. A block of one address has none: it
// would replace the workload's route. A block of another node gets a route there. The way to a BGP peer by its gateway wins.
func (f *fleet) decide(p netip.Prefix) (d destination) {
	if f.space.owns(p) {
		d.route, d.routed = Route{Kind: BlockHole}, !p.IsSingleIP()
		d.path, d.told = Path{Reason: "block"}, f.space.exports(p)
	} else if node, there := f.owner(p); there {
		d.route, d.routed = f.to(node, p)
	}
	if p.IsSingleIP() {
		f.decideAddress(p, &d)
		f.preferPeer(p, &d)
	}
	return d
}

// decideAddress decides about a single address. Of several endpoints with it, one has the traffic, and the others wait.
func (f *fleet) decideAddress(p netip.Prefix, d *destination) {
	l, here := f.local(p.Addr())
	best, rival, found := f.compete(p.Addr(), here)
	switch {
	case !found:
	case best.node == f.node:
		d.route, d.routed = Route{Kind: LocalWorkload, Interface: l.Interface}, true
		if f.space.borrowed(p.Addr()) {
			d.path, d.told = Path{Reason: "borrowed", Interface: l.Interface}, true
		}
		if rival != "" {
			d.about, d.problem = l.ID.key(), fmt.Sprintf("address %v also belongs to an endpoint of Node(%s); this one is older or its node comes "+
				"first by name, so traffic comes here until it is gone: remove one of them", p.Addr(), rival)
		}
	default:
		d.routed, d.told = false, false
		if b, node, yes := f.around(p.Addr()); !yes || node != best.node || b == p {
			d.route, d.routed = f.to(best.node, p)
		}
		if here {
			d.about, d.problem = l.ID.key(), fmt.Sprintf("address %v also belongs to an endpoint of Node(%s), which is older or comes first by "+
				"name, so traffic goes there until that one is gone: remove one of them", p.Addr(), best.node)
		}
	}
}

// compete finds the endpoint that has an address, and the node of the next one, if that is another node. Endpoints of nodes that do not
// exist do not count, and neither do this node's unless one is in force.
func (f *fleet) compete(a netip.Addr, here bool) (best holder, rival string, found bool) {
	best, found = holder{node: f.node}, false
	all := f.holders(a)
	for _, h := range all {
		if f.counts(h, here) && (!found || compareHolders(h, best) < 0) {
			best, found = h, true
		}
	}
	var next holder
	for _, h := range all {
		if f.counts(h, here) && h.node != best.node && (next.node == "" || compareHolders(h, next) < 0) {
			next = h
		}
	}
	return best, next.node, found
}

func (f *fleet) counts(h holder, here bool) bool {
	if h.node == f.node {
		return here
	}
	return f.known(h.node)
}

// to is the route to a prefix of another node, if there is a way.
func (f *fleet) to(node string, p netip.Prefix) (Route, bool) {
	gateway := f.ways[node].of(p)
	pool, within := f.space.poolOf(p)
	if node == f.node || !gateway.IsValid() || !within || pool.Encap != "" {
		return Route{}, false
	}
	return Route{Kind: ViaNode, Node: node, Gateway: gateway}, true
}

// ownerOf reads which node a block belongs to. ok is false if it is gone or belongs to none.
func ownerOf(u api.Update) (cidr netip.Prefix, node string, ok bool) {
	cidr, err := netip.ParsePrefix(strings.ReplaceAll(u.Key.Name, "-", "/"))
	b, is := u.Object.(*api.IPAMBlock)
	if err != nil || !is || u.Invalid != "" || b.Deleted || b.Affinity == nil {
		return cidr, "", false
	}
	written, err := api.ParseNet(b.CIDR)
	node, of := strings.CutPrefix(*b.Affinity, "host:")
	if !of || err != nil || written != cidr {
		return cidr, "", false
	}
	return cidr, node, true
}

// blockOwners knows which node each block of the fleet belongs to.
type blockOwners struct {
	owner   map[prefix]uint32 // by block: the number of the node
	lengths map[uint8]int     // how many blocks have a prefix of this length, IPv4 as mapped IPv6
	nodes   []string          // by number
	numbers map[string]uint32
}

func newBlockOwners() blockOwners {
	return blockOwners{owner: map[prefix]uint32{}, lengths: map[uint8]int{}, numbers: map[string]uint32{}}
}

// set notes the owner of a block, or with an empty node that it has none. It reports whether that is new.
func (b *blockOwners) set(block netip.Prefix, node string) bool {
	key := packPrefix(block)
	old, there := b.owner[key]
	if node == "" {
		if there {
			delete(b.owner, key)
			if b.lengths[key[16]]--; b.lengths[key[16]] == 0 {
				delete(b.lengths, key[16])
			}
		}
		return there
	}
	n, known := b.numbers[node]
	if !known {
		n = uint32(len(b.nodes))
		b.nodes, b.numbers[node] = append(b.nodes, node), n
	}
	if !there {
		b.lengths[key[16]]++
	}
	b.owner[key] = n
	return !there || old != n
}

func (b *blockOwners) of(block netip.Prefix) (node string, there bool) {
	n, there := b.owner[packPrefix(block)]
	if !there {
		return "", false
	}
	return b.nodes[n], true
}

// around finds the smallest block that contains an address.
func (b *blockOwners) around(a netip.Addr) (block netip.Prefix, node string, found bool) {
	for length := range b.lengths {
		bits := int(length)
		if a.Is4() {
			bits -= 96
		}
		if bits < 0 || found && bits < block.Bits() {
			continue
		}
		p := netip.PrefixFrom(a, bits).Masked()
		if n, there := b.of(p); there {
			block, node, found = p, n, true
		}
	}
	return block, node, found
}

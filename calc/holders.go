package calc

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// holder is a workload endpoint of any node that has an address.
type holder struct {
	node  string
	since uint32 // when the endpoint was created, in seconds since 1970; 0: its object does not say
}

// compareHolders orders by age, then by the name of the node. Of several endpoints with one address the first has it. Every node finds
// the same one, because all read the same objects.
func compareHolders(a, b holder) int {
	return cmp.Or(cmp.Compare(a.since, b.since), strings.Compare(a.node, b.node))
}

// readHolder reads a workload endpoint's node and age, and its addresses. ok is false for an endpoint that its node closes or ignores
// whatever else there is, because its object is not valid.
func readHolder(u api.Update) (h holder, addresses []netip.Addr, ok bool) {
	w, is := u.Object.(*api.WorkloadEndpoint)
	if !is || u.Invalid != "" || w.Spec.Node == "" || w.Spec.InterfaceName == "" {
		return holder{}, nil, false
	}
	for _, text := range w.Spec.IPNetworks {
		n, err := api.ParseNet(text)
		if err != nil || !n.IsSingleIP() {
			return holder{}, nil, false
		}
		addresses = append(addresses, n.Addr())
	}
	h = holder{node: w.Spec.Node, since: uint32(min(max(w.CreationTimestamp.Unix(), 0), math.MaxUint32))}
	return h, addresses, true
}

// holders finds the workload endpoints of the whole fleet by their addresses. There may be very many, so it keeps only numbers; the
// addresses themselves are in the entities.
type holders struct {
	nodes   []string          // by number
	numbers map[string]uint32 // by node
	spans   map[span][]holding
}

// span is 64 addresses: the first of them, as 16 bytes, IPv4 mapped. A block of the default size is one span.
type span [16]byte

// holding is an endpoint with an address in a span.
type holding struct {
	entity entityID
	node   uint32
	since  uint32
}

const spanBits = 6 // of an address that tell the addresses of a span apart

func spanOf(a netip.Addr) span {
	b := span(a.As16())
	b[15] &^= 1<<spanBits - 1
	return b
}

func newHolders() holders {
	return holders{numbers: map[string]uint32{}, spans: map[span][]holding{}}
}

func (h *holders) number(node string) uint32 {
	n, known := h.numbers[node]
	if !known {
		n = uint32(len(h.nodes))
		h.nodes, h.numbers[node] = append(h.nodes, node), n
	}
	return n
}

func (h *holders) add(id entityID, by holder, addresses []netip.Addr) {
	for _, a := range addresses {
		b := spanOf(a)
		if list := h.spans[b]; !slices.ContainsFunc(list, func(o holding) bool { return o.entity == id }) {
			h.spans[b] = append(list, holding{id, h.number(by.node), by.since})
		}
	}
}

func (h *holders) remove(id entityID, addresses []netip.Addr) {
	for _, a := range addresses {
		b := spanOf(a)
		switch list := slices.DeleteFunc(h.spans[b], func(o holding) bool { return o.entity == id }); len(list) {
		case 0:
			delete(h.spans, b)
		default:
			h.spans[b] = list
		}
	}
}

// holdersOf returns the endpoints that have an address, of each node the oldest.
func (g *Graph) holdersOf(a netip.Addr) (found []holder) {
	h := &g.entities.holders
	for _, o := range h.spans[spanOf(a)] {
		for n := range g.entities.list[o.entity].contribution().nets {
			if p := n.unpack(); p.IsSingleIP() && p.Addr() == a {
				found = append(found, holder{h.nodes[o.node], o.since})
				break
			}
		}
	}
	return found
}

// hold enters an endpoint's addresses instead of those that it had, and marks the routes to both.
func (g *Graph) hold(id entityID, u api.Update, before contribution) {
	if u.Key.Kind != api.KindWorkloadEndpoint {
		return
	}
	old := singles(before)
	g.entities.holders.remove(id, old)
	g.touchAddresses(old)
	if by, addresses, ok := readHolder(u); ok {
		g.entities.holders.add(id, by, addresses)
		g.touchAddresses(addresses)
	}
}

// singles are the single addresses of an entity.
func singles(c contribution) (addresses []netip.Addr) {
	for n := range c.nets {
		if p := n.unpack(); p.IsSingleIP() {
			addresses = append(addresses, p.Addr())
		}
	}
	return addresses
}

package classifiertest

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"

	"github.com/margay-project/margay/calc"
)

// RandomPacket returns a packet, most often one at an edge of the nets, ports and sets of a state's rules.
func RandomPacket(r *rand.Rand, s *calc.State) calc.Packet {
	p := calc.Packet{Protocol: pick(r, protocols)}
	if r.IntN(16) == 0 {
		p.Protocol = uint8(r.IntN(256))
	}
	p.Source = somewhere(r, s)
	for p.Destination = somewhere(r, s); p.Destination.Is4() != p.Source.Is4(); {
		p.Destination = somewhere(r, s)
	}
	switch {
	case calc.HasPorts(p.Protocol):
		p.SourcePort, p.DestinationPort = randomPort(r), randomPort(r)
	case p.Protocol == 1 || p.Protocol == 58:
		p.ICMPType, p.ICMPCode = pick(r, types), pick(r, types)
	}
	return p
}

// BoundaryPackets returns some number of packets at the edges of the differences between two states: the addresses of
// members that join or leave and those around them, the nets and ports of rules that change. In most of them both
// addresses are such.
func BoundaryPackets(r *rand.Rand, from, to *calc.State, many int) []calc.Packet {
	var b boundary
	b.members(from.Sets, to.Sets)
	b.members(to.Sets, from.Sets)
	b.policies(from.Policies, to.Policies)
	b.policies(to.Policies, from.Policies)
	for _, s := range []*calc.State{from, to} {
		p := RandomPacket(r, s)
		b.addresses = append(b.addresses, p.Source, p.Destination)
	}
	b.ports = append(b.ports, randomPort(r))
	slices.SortFunc(b.addresses, netip.Addr.Compare)
	b.addresses = slices.Compact(b.addresses)
	slices.Sort(b.ports) // so that the same seed gives the same packets
	slices.Sort(b.protocols)
	packets := make([]calc.Packet, 0, many)
	for range many {
		packets = append(packets, b.packet(r))
	}
	return packets
}

type boundary struct {
	addresses []netip.Addr
	ports     []uint16
	protocols []uint8
}

func (b *boundary) members(sets, others map[calc.SetID]calc.Members) {
	for id, members := range sets {
		for m := range members {
			if _, in := others[id][m]; !in {
				b.net(m)
			}
		}
	}
}

func (b *boundary) net(p netip.Prefix) {
	first, last := p.Masked().Addr(), last(p)
	for _, a := range []netip.Addr{first.Prev(), first, last, last.Next()} {
		if a.IsValid() && !a.Is4In6() {
			b.addresses = append(b.addresses, a)
		}
	}
}

func (b *boundary) policies(policies, others map[calc.PolicyID]calc.Policy) {
	for id, p := range policies {
		o := others[id]
		for _, rules := range [][2][]calc.Rule{{p.Ingress, o.Ingress}, {p.Egress, o.Egress}} {
			for i, rule := range rules[0] {
				if i >= len(rules[1]) || !reflect.DeepEqual(rule, rules[1][i]) {
					b.rule(rule)
				}
			}
		}
	}
}

func (b *boundary) rule(r calc.Rule) {
	if r.Protocol != 0 {
		b.protocols = append(b.protocols, r.Protocol)
	}
	for _, m := range []calc.Match{r.Source, r.Destination} {
		for _, n := range slices.Concat(m.Nets, m.NotNets) {
			b.net(n)
		}
		for _, p := range slices.Concat(m.Ports, m.NotPorts) {
			b.ports = append(b.ports, p.First-1, p.First, p.Last, p.Last+1)
		}
	}
}

func (b *boundary) packet(r *rand.Rand) calc.Packet {
	p := calc.Packet{Protocol: pick(r, protocols), Source: pick(r, b.addresses)}
	for p.Destination = pick(r, b.addresses); p.Destination.Is4() != p.Source.Is4(); {
		p.Destination = pick(r, b.addresses)
	}
	if len(b.protocols) > 0 && r.IntN(2) == 0 {
		p.Protocol = pick(r, b.protocols)
	}
	switch {
	case calc.HasPorts(p.Protocol):
		p.SourcePort, p.DestinationPort = pick(r, b.ports), pick(r, b.ports)
	case p.Protocol == 1 || p.Protocol == 58:
		p.ICMPType, p.ICMPCode = pick(r, types), pick(r, types)
	}
	return p
}

func randomPort(r *rand.Rand) uint16 {
	if r.IntN(8) == 0 {
		return uint16(r.IntN(1 << 16))
	}
	return pick(r, ports) + uint16(r.IntN(3)) - 1
}

// somewhere is an address at an edge of one of the pool's prefixes, or of a member of a set.
func somewhere(r *rand.Rand, s *calc.State) netip.Addr {
	if len(s.Sets) > 0 && r.IntN(3) == 0 {
		ids := make([]calc.SetID, 0, len(s.Sets))
		for id := range s.Sets {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		members := s.Sets[pick(r, ids)]
		all := make([]netip.Prefix, 0, len(members))
		for m := range members {
			all = append(all, m)
		}
		slices.SortFunc(all, netip.Prefix.Compare)
		if len(all) > 0 {
			return edge(r, pick(r, all))
		}
	}
	return randomAddr(r)
}

func randomAddr(r *rand.Rand) netip.Addr {
	return edge(r, netip.MustParsePrefix(pick(r, prefixes)))
}

// AddressIn returns an address of a prefix, most often one where a longer prefix of the pool begins or ends.
func AddressIn(r *rand.Rand, p netip.Prefix) netip.Addr {
	for range 8 {
		if a := randomAddr(r); p.Contains(a) {
			return a
		}
	}
	return p.Masked().Addr()
}

// edge is the first or last address of a prefix, or the one before or behind it. It is never a mapped one.
func edge(r *rand.Rand, p netip.Prefix) netip.Addr {
	a := p.Masked().Addr()
	if r.IntN(2) == 0 {
		a = last(p)
	}
	switch r.IntN(4) {
	case 0:
		if prev := a.Prev(); prev.IsValid() {
			a = prev
		}
	case 1:
		if next := a.Next(); next.IsValid() {
			a = next
		}
	}
	if a.Is4In6() {
		return p.Masked().Addr()
	}
	return a
}

func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

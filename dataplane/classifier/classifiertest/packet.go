package classifiertest

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/calc"
)

// RandomPacket returns a packet, most often one at an edge of what the rules and sets of a state name.
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

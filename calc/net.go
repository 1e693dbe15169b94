package calc

import "net/netip"

// host is the prefix that holds one address.
func host(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// prefix is a netip.Prefix in half the memory and without a pointer: the address as 16 bytes, IPv4 mapped, and the length.
type prefix [17]byte

func packPrefix(p netip.Prefix) (packed prefix) {
	a := p.Addr().As16()
	copy(packed[:], a[:])
	packed[16] = byte(p.Bits())
	if p.Addr().Is4() {
		packed[16] += 96
	}
	return packed
}

func (p prefix) unpack() netip.Prefix {
	a, bits := netip.AddrFrom16([16]byte(p[:16])), int(p[16])
	if a.Is4In6() && bits >= 96 { // a mapped prefix in an object is read as IPv4
		return netip.PrefixFrom(a.Unmap(), bits-96)
	}
	return netip.PrefixFrom(a, bits)
}

// append writes the prefix in few bytes: its length, from 0 on for IPv4 and from 64 on for IPv6, and the address in 4 or 16 bytes.
func (p prefix) append(to []byte) []byte {
	if real := p.unpack(); real.Addr().Is4() {
		return append(append(to, byte(real.Bits())), p[12:16]...)
	}
	return append(append(to, p[16]+64), p[:16]...)
}

// readPrefix reads a prefix that append wrote, and returns how many bytes it has.
func readPrefix(s string) (p prefix, size int) {
	if s[0] < 64 {
		p[10], p[11] = 0xff, 0xff
		copy(p[12:16], s[1:5])
		p[16] = s[0] + 96
		return p, 5
	}
	copy(p[:16], s[1:17])
	p[16] = s[0] - 64
	return p, 17
}

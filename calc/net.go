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
	if a.Is4In6() && bits >= 96 { // a real mapped prefix is never read
		return netip.PrefixFrom(a.Unmap(), bits-96)
	}
	return netip.PrefixFrom(a, bits)
}

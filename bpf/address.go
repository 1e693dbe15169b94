package bpf

import (
	"net/netip"

	"github.com/margay-project/margay/bpf/layout"
)

// Address is how every map spells an address: 16 bytes, IPv4 as ::ffff:a.b.c.d.
func Address(a netip.Addr) [16]byte { return a.As16() }

// AddrOf is the inverse of Address.
func AddrOf(b [16]byte) netip.Addr { return netip.AddrFrom16(b).Unmap() }

// NetKeyOf is the key of a network in the table Nets. The host bits of the prefix are cleared.
func NetKeyOf(p netip.Prefix) layout.NetKey {
	p = p.Masked()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return layout.NetKey{Prefixlen: uint32(bits), Addr: p.Addr().As16()}
}

// PrefixOf is the inverse of NetKeyOf.
func PrefixOf(k layout.NetKey) netip.Prefix {
	addr := netip.AddrFrom16(k.Addr)
	if addr.Is4In6() && k.Prefixlen >= 96 {
		return netip.PrefixFrom(addr.Unmap(), int(k.Prefixlen)-96)
	}
	return netip.PrefixFrom(addr, int(k.Prefixlen))
}

// ClassOf is the value of an address or network in Hosts and Nets: the vectors of the class as a source and as a
// destination. It carries the key, because a reader in the kernel may hold an element that is being reused.
func ClassOf(addr netip.Addr, source, dest uint32) layout.AddressClass {
	return layout.AddressClass{Addr: addr.As16(), Source: source, Dest: dest}
}

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

// PutHost gives one address its class: its vectors as a source and as a destination.
func (g *Generation) PutHost(a netip.Addr, source, dest uint32) error {
	return g.Hosts.Put(Address(a), ClassOf(a, source, dest))
}

// DeleteHost takes the class of one address away; networks that contain it count again.
func (g *Generation) DeleteHost(a netip.Addr) error { return g.Hosts.Delete(Address(a)) }

// PutNet gives the addresses of a network their class, except those in a longer one and those with a class of their own.
func (g *Generation) PutNet(p netip.Prefix, source, dest uint32) error {
	return g.Nets.Put(NetKeyOf(p), ClassOf(p.Masked().Addr(), source, dest))
}

// DeleteNet takes the class of a network away.
func (g *Generation) DeleteNet(p netip.Prefix) error { return g.Nets.Delete(NetKeyOf(p)) }

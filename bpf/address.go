package bpf

import (
	"net/netip"

	"github.com/margay-project/margay/bpf/layout"
)

// Address is an address as maps spell it: 16 bytes, IPv4 as ::ffff:a.b.c.d.
func Address(a netip.Addr) [16]byte { return a.As16() }

// AddrOf is the inverse of Address.
func AddrOf(b [16]byte) netip.Addr { return netip.AddrFrom16(b).Unmap() }

// NetKeyOf is the key of a prefix in Nets, without host bits.
func NetKeyOf(p netip.Prefix) layout.NetKey {
	p = p.Masked()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return layout.NetKey{Prefixlen: uint32(bits), Addr: p.Addr().As16()}
}

// SourceNetKeyOf is the key of a network in SourceNets, without host bits.
func SourceNetKeyOf(ifindex uint32, p netip.Prefix) layout.SourceNetKey {
	key := NetKeyOf(p)
	return layout.SourceNetKey{Prefixlen: 32 + key.Prefixlen, Ifindex: ifindex, Addr: key.Addr}
}

// PrefixOf is the inverse of NetKeyOf.
func PrefixOf(k layout.NetKey) netip.Prefix {
	addr := netip.AddrFrom16(k.Addr)
	if addr.Is4In6() && k.Prefixlen >= 96 {
		return netip.PrefixFrom(addr.Unmap(), int(k.Prefixlen)-96)
	}
	return netip.PrefixFrom(addr, int(k.Prefixlen))
}

// ClassOf is the value of an address or prefix in Hosts and Nets: the vectors of its class as a source and as a
// destination. It repeats the key: see struct address_class.
func ClassOf(addr netip.Addr, source, dest uint32) layout.AddressClass {
	return layout.AddressClass{Addr: addr.As16(), Source: source, Dest: dest}
}

// PutHost gives one address its class, by the vectors as a source and as a destination.
func (g *Generation) PutHost(a netip.Addr, source, dest uint32) error {
	return g.Hosts.Put(Address(a), ClassOf(a, source, dest))
}

// DeleteHost removes the class of one address. It then has the class of the longest prefix around it.
func (g *Generation) DeleteHost(a netip.Addr) error { return g.Hosts.Delete(Address(a)) }

// PutNet gives a prefix its class. Addresses in it with a class of their own, or in a longer prefix, are not affected.
func (g *Generation) PutNet(p netip.Prefix, source, dest uint32) error {
	return g.Nets.Put(NetKeyOf(p), ClassOf(p.Masked().Addr(), source, dest))
}

// DeleteNet removes the class of a prefix.
func (g *Generation) DeleteNet(p netip.Prefix) error { return g.Nets.Delete(NetKeyOf(p)) }

package bpf

import "net/netip"

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

package main

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// findAddresses finds the addresses by which this node is known to others: of each family the first one of the
// interface that the default route leaves by.
func findAddresses() (found nodeAddresses) {
	found.v4 = addressByDefaultRoute(netlink.FAMILY_V4)
	found.v6 = addressByDefaultRoute(netlink.FAMILY_V6)
	return found
}

func addressByDefaultRoute(family int) netip.Prefix {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
	if err != nil {
		return netip.Prefix{}
	}
	for _, route := range routes {
		link, err := netlink.LinkByIndex(route.LinkIndex)
		if err != nil {
			continue
		}
		addresses, err := netlink.AddrList(link, family)
		if err != nil {
			continue
		}
		for _, a := range addresses {
			if prefix := prefixOf(a.IPNet); prefix.IsValid() && prefix.Addr().IsGlobalUnicast() {
				return prefix
			}
		}
	}
	return netip.Prefix{}
}

func prefixOf(n *net.IPNet) netip.Prefix {
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}

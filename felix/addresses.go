package main

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/fib"
)

// findAddresses finds the addresses by which this node is known to others: of each family the first one of the
// interface that the default route leaves by.
func findAddresses() (found nodeAddresses) {
	reader, err := fib.NewReader()
	if err != nil {
		return found
	}
	defer reader.Close()
	routes, err := reader.Defaults()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return found
	}
	for _, route := range routes {
		if route.Table != unix.RT_TABLE_MAIN || route.Prefix.Bits() != 0 {
			continue
		}
		family, address := netlink.FAMILY_V4, &found.v4
		if route.Prefix.Addr().Is6() {
			family, address = netlink.FAMILY_V6, &found.v6
		}
		if !address.IsValid() {
			*address = addressOf(route, family)
		}
	}
	return found
}

func addressOf(route fib.Default, family int) netip.Prefix {
	for _, index := range route.Interfaces {
		link, err := netlink.LinkByIndex(index)
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

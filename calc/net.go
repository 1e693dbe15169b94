package calc

import "net/netip"

// host is the prefix that holds one address.
func host(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

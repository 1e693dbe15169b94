package calc

import (
	"fmt"
	"net/netip"
	"strings"
)

// parseNet reads a network or an address without regard to host bits. IPv4 written as IPv6 is IPv4.
func parseNet(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is no address: write it like 10.0.0.1 or fd00::1", text)
		}
		return host(a), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no network: write it like 10.0.0.0/8 or fd00::/64", text)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// host is the prefix that holds one address.
func host(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

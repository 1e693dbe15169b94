package api

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParseNet reads a network as manifests write it: a CIDR, whose host bits are dropped, or an address, which is a network
// of one.
func ParseNet(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is not a network: want a CIDR such as 10.0.0.0/8 or an address", text)
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is not a network: want a CIDR such as 10.0.0.0/8 or fd00::/8", text)
	}
	return p.Masked(), nil
}

// ParseAddr reads an address without a zone. An IPv4 address in IPv6 notation is refused: it would be in both families.
func ParseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%q is not an address: want one such as 192.0.2.1 or 2001:db8::1", text)
	}
	return a, nil
}

// ParseAddrNet reads an address that may say how long the prefix of its network is, as in 192.0.2.1/24. Without one the
// network is the address alone.
func ParseAddrNet(text string) (netip.Prefix, error) {
	address, _, long := strings.Cut(text, "/")
	a, err := ParseAddr(address)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address: want one such as 192.0.2.1/24 or 2001:db8::1/64", text)
	}
	if !long {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address: want one such as 192.0.2.1/24 or 2001:db8::1/64", text)
	}
	return p, nil
}

// hasHostBits says that a CIDR names an address within its network, not the network.
func hasHostBits(text string) bool {
	p, err := netip.ParsePrefix(text)
	return err == nil && p != p.Masked()
}

// HasPorts says that packets of the protocol have ports that rules may name.
func (p Protocol) HasPorts() bool {
	switch n, _ := p.Value(); n {
	case 6, 17, 132:
		return true
	}
	return false
}

package api

import (
	"fmt"
	"net/netip"
	"strconv"
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
	p, err := parseCIDR(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a network: want a CIDR such as 10.0.0.0/8 or fd00::/8", text)
	}
	return p.Masked(), nil
}

// ParseAddr reads an address without a zone. An IPv4 address in IPv6 notation is the IPv4 address.
func ParseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is not an address: want one such as 192.0.2.1 or 2001:db8::1", text)
	}
	return a.Unmap(), nil
}

// ParseAddrNet reads an address that may say how long the prefix of its network is, as in 192.0.2.1/24. Without one the
// network is the address alone.
func ParseAddrNet(text string) (netip.Prefix, error) {
	if a, err := ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := parseCIDR(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address: want one such as 192.0.2.1/24 or 2001:db8::1/64", text)
	}
	return p, nil
}

// parseCIDR reads ADDRESS/LENGTH and keeps the host bits. A network of IPv4 addresses in IPv6 notation is the IPv4 network;
// a length may begin with zeros. Others who write the datastore read both so.
func parseCIDR(text string) (netip.Prefix, error) {
	address, length, _ := strings.Cut(text, "/")
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}, err
	}
	bits, err := strconv.ParseUint(length, 10, 8)
	if err != nil || int(bits) > a.BitLen() || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is not the length of a prefix", length)
	}
	if a.Is4In6() && bits >= 96 {
		a, bits = a.Unmap(), bits-96
	}
	return netip.PrefixFrom(a, int(bits)), nil
}

// hasHostBits says that a CIDR names an address within its network, not the network.
func hasHostBits(text string) bool {
	p, err := parseCIDR(text)
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

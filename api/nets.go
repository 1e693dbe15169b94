package api

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParseNet parses a network as manifests write it: a CIDR, whose host bits are dropped, or an address, which becomes a network
// of one address.
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

// ParseAddr parses an address without a zone. An IPv4-mapped IPv6 address (::ffff:192.0.2.1) becomes the IPv4 address.
func ParseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is not an address: want one such as 192.0.2.1 or 2001:db8::1", text)
	}
	return a.Unmap(), nil
}

// ParseAddrNet parses an address with or without the prefix length of its network, for example 192.0.2.1/24. It keeps the host
// bits. Without a prefix length, the network is the address alone.
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

// parseCIDR parses ADDRESS/LENGTH and keeps the host bits. A network of IPv4-mapped IPv6 addresses becomes the IPv4 network, and
// a length may begin with zeros: Calico's tools, which share the datastore, accept both.
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

// hasHostBits says whether a CIDR has address bits set outside of its prefix.
func hasHostBits(text string) bool {
	p, err := parseCIDR(text)
	return err == nil && p != p.Masked()
}

// HasPorts says whether rules may match ports of the protocol: TCP, UDP and SCTP.
func (p Protocol) HasPorts() bool {
	switch n, _ := p.Value(); n {
	case 6, 17, 132:
		return true
	}
	return false
}

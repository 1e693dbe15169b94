package api

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

func (c *checker) pool(p *IPPool) {
	s := &p.Spec
	c.name(p.Name, 127)
	c.poolCIDR(s)
	c.oneOf("spec.ipipMode", s.IPIPMode, "Never", "Always", "CrossSubnet")
	c.oneOf("spec.vxlanMode", s.VXLANMode, "Never", "Always", "CrossSubnet")
	if encapsulates(s.IPIPMode) && encapsulates(s.VXLANMode) {
		c.add("spec.vxlanMode", s.VXLANMode, "want Never together with ipipMode %s, or set that to Never", s.IPIPMode)
	}
	for path, text := range inOrder(map[string]string{"spec.nodeSelector": s.NodeSelector, "spec.namespaceSelector": s.NamespaceSelector}) {
		c.selector(path, text)
		c.noGlobal(path, text)
	}
	c.optionalOneOf("spec.assignmentMode", s.AssignmentMode, "Automatic", "Manual")
	c.poolUses(s)
}

func encapsulates(mode string) bool { return mode != "" && mode != "Never" }

func (c *checker) poolCIDR(s *IPPoolSpec) {
	if s.CIDR == "" {
		c.add("spec.cidr", "", "missing: want a CIDR such as 10.0.0.0/16")
		return
	}
	net, ok := c.network("spec.cidr", s.CIDR)
	if !ok {
		return
	}
	for _, local := range []string{"169.254.0.0/16", "fe80::/10"} {
		if net.Overlaps(netip.MustParsePrefix(local)) {
			c.add("spec.cidr", s.CIDR, "overlaps the link-local addresses %s: want other addresses", local)
		}
	}
	low, high := int64(20), int64(32)
	if net.Addr().Is6() {
		low, high = 116, 128
		if encapsulates(s.IPIPMode) {
			c.add("spec.ipipMode", s.IPIPMode, "want Never: IPIP is for IPv4 pools only, vxlanMode for both")
		}
	}
	if s.BlockSize == 0 { // not set: the default is not checked against the pool
		return
	}
	c.between("spec.blockSize", int64(s.BlockSize), low, high)
	if s.BlockSize < net.Bits() && !s.Disabled {
		c.add("spec.blockSize", s.BlockSize, "a block of this size is larger than the pool: want %d to %d", max(low, int64(net.Bits())), high)
	}
}

func (c *checker) poolUses(s *IPPoolSpec) {
	if len(s.AllowedUses) > 10 {
		c.add("spec.allowedUses", fmt.Sprintf("%d uses", len(s.AllowedUses)), "want at most 10")
	}
	for i, u := range s.AllowedUses {
		c.oneOf(at("spec.allowedUses", i), u, "Workload", "Tunnel", "LoadBalancer")
		if u == "" {
			c.add(at("spec.allowedUses", i), u, "want Workload, Tunnel or LoadBalancer")
		}
	}
	if s.NamespaceSelector != "" && slices.Contains(s.AllowedUses, "Tunnel") {
		c.add("spec.namespaceSelector", s.NamespaceSelector, "want it without the use Tunnel only: set allowedUses to [Workload]")
	}
	if !slices.Contains(s.AllowedUses, "LoadBalancer") {
		return
	}
	if slices.ContainsFunc(s.AllowedUses, func(u string) bool { return u != "LoadBalancer" }) {
		c.add("spec.allowedUses", s.AllowedUses, "LoadBalancer excludes Workload and Tunnel: remove them, or it")
	}
	if encapsulates(s.IPIPMode) || encapsulates(s.VXLANMode) || s.DisableBGPExport || s.NodeSelector != "" && s.NodeSelector != "all()" {
		c.add("spec.allowedUses", s.AllowedUses, "want a LoadBalancer pool without encapsulation, with the nodeSelector all() and BGP export")
	}
}

func (c *checker) node(n *Node) {
	s := &n.Spec
	c.name(n.Name, 127)
	if b := s.BGP; b != nil {
		c.nodeBGP(b)
	}
	optionalAddress := func(path, text string, family int) {
		if text != "" {
			c.address(path, text, family)
		}
	}
	optionalAddress("spec.ipv4VXLANTunnelAddr", s.IPv4VXLANTunnelAddr, 4)
	optionalAddress("spec.ipv6VXLANTunnelAddr", s.IPv6VXLANTunnelAddr, 6)
	if w := s.Wireguard; w != nil {
		optionalAddress("spec.wireguard.interfaceIPv4Address", w.InterfaceIPv4Address, 4)
		optionalAddress("spec.wireguard.interfaceIPv6Address", w.InterfaceIPv6Address, 6)
	}
	for path, mac := range inOrder(map[string]string{"spec.vxlanTunnelMACAddr": s.VXLANTunnelMACAddr, "spec.vxlanTunnelMACAddrV6": s.VXLANTunnelMACAddrV6}) {
		if _, err := net.ParseMAC(mac); mac != "" && err != nil {
			c.add(path, mac, "want a MAC address such as 66:00:00:00:00:01")
		}
	}
	c.wireguardKey("status.wireguardPublicKey", n.Status.WireguardPublicKey)
	c.wireguardKey("status.wireguardPublicKeyV6", n.Status.WireguardPublicKeyV6)
}

func (c *checker) nodeBGP(b *NodeBGPSpec) {
	if *b == (NodeBGPSpec{}) {
		c.add("spec.bgp", "{}", "empty: want an address or an AS number, or remove it")
	}
	for path, a := range inOrder(map[string]string{"spec.bgp.ipv4Address": b.IPv4Address, "spec.bgp.ipv6Address": b.IPv6Address}) {
		if p, err := ParseAddrNet(a); a != "" && (err != nil || p.Addr().Is4() != strings.Contains(path, "ipv4")) {
			c.add(path, a, "want an address with the prefix length of its network, such as 192.0.2.1/24 or 2001:db8::1/64")
		}
	}
	if b.IPv4IPIPTunnelAddr != "" {
		c.address("spec.bgp.ipv4IPIPTunnelAddr", b.IPv4IPIPTunnelAddr, 4)
	}
	if b.RouteReflectorClusterID != "" {
		c.address("spec.bgp.routeReflectorClusterID", b.RouteReflectorClusterID, 4)
	}
}

func (c *checker) wireguardKey(path, key string) {
	if raw, err := base64.StdEncoding.DecodeString(key); key != "" && (err != nil || len(raw) != 32) {
		c.add(path, key, "want a WireGuard key: 32 bytes in base64")
	}
}

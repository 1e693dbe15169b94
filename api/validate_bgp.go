package api

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

func (c *checker) bgpConfiguration(b *BGPConfiguration) {
	s := &b.Spec
	c.name(b.Name, 127)
	c.oneOfAnyCase("spec.logSeverityScreen", s.LogSeverityScreen, "Trace", "Debug", "Info", "Warning", "Error", "Fatal")
	c.oneOf("spec.serviceLoadBalancerAggregation", s.ServiceLoadBalancerAggregation, "Enabled", "Disabled")
	c.optionalOneOf("spec.bindMode", s.BindMode, "None", "NodeIP")
	c.optionalOneOf("spec.programClusterRoutes", s.ProgramClusterRoutes, "Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly")
	for path, blocks := range inOrder(map[string][]CIDRBlock{"spec.serviceClusterIPs": s.ServiceClusterIPs,
		"spec.serviceExternalIPs": s.ServiceExternalIPs, "spec.serviceLoadBalancerIPs": s.ServiceLoadBalancerIPs}) {
		for i, block := range blocks {
			if block.CIDR != "" {
				c.network(at(path, i)+".cidr", block.CIDR)
			}
		}
	}
	c.communities(s)
	for i, name := range s.IgnoredInterfaces {
		if name == "*" || name == "" || len(name) > 15 || !hasOnly(name, "_.*-") {
			c.add(at("spec.ignoredInterfaces", i), name, "want the name of an interface, in which * stands for any text; not * alone")
		}
	}
	if s.LocalWorkloadPeeringIPV4 != "" {
		c.address("spec.localWorkloadPeeringIPV4", s.LocalWorkloadPeeringIPV4, 4)
	}
	if s.LocalWorkloadPeeringIPV6 != "" {
		c.address("spec.localWorkloadPeeringIPV6", s.LocalWorkloadPeeringIPV6, 6)
	}
	for path, priority := range inOrder(map[string]*int{"spec.ipv4NormalRoutePriority": s.IPv4NormalRoutePriority, "spec.ipv6NormalRoutePriority": s.IPv6NormalRoutePriority}) {
		if priority != nil {
			c.between(path, int64(*priority), 1, math.MaxInt32-1)
		}
	}
	c.mesh(s)
	c.password("spec.nodeMeshPassword", s.NodeMeshPassword)
	if b.Name != "default" {
		c.onlyOnDefault(s)
	}
}

// optionalOneOf checks that a value is one of some words, or missing. It must not be empty.
func (c *checker) optionalOneOf(path string, value *string, words ...string) {
	if value != nil && !slices.Contains(words, *value) {
		c.add(path, *value, "want one of %s", strings.Join(words, ", "))
	}
}

// oneOfAnyCase checks that a value is one of some words, in upper or lower case, or empty.
func (c *checker) oneOfAnyCase(path, value string, words ...string) {
	for _, w := range words {
		if strings.EqualFold(value, w) {
			return
		}
	}
	c.oneOf(path, value, words...)
}

func (c *checker) mesh(s *BGPConfigurationSpec) {
	if s.NodeToNodeMeshEnabled == nil || *s.NodeToNodeMeshEnabled {
		return
	}
	if s.NodeMeshPassword != nil {
		c.add("spec.nodeMeshPassword", s.NodeMeshPassword, "the mesh is disabled: remove it")
	}
	if s.NodeMeshMaxRestartTime != nil {
		c.add("spec.nodeMeshMaxRestartTime", s.NodeMeshMaxRestartTime, "the mesh is disabled: remove it")
	}
}

func (c *checker) onlyOnDefault(s *BGPConfigurationSpec) {
	for path, value := range inOrder(map[string]any{
		"spec.nodeToNodeMeshEnabled": s.NodeToNodeMeshEnabled, "spec.asNumber": s.ASNumber,
		"spec.serviceClusterIPs": s.ServiceClusterIPs, "spec.serviceExternalIPs": s.ServiceExternalIPs,
		"spec.serviceLoadBalancerIPs": s.ServiceLoadBalancerIPs, "spec.nodeMeshPassword": s.NodeMeshPassword,
		"spec.nodeMeshMaxRestartTime": s.NodeMeshMaxRestartTime,
	}) {
		if !reflect.ValueOf(value).IsZero() {
			c.add(path, value, "Cannot set it on a non default BGP Configuration: want it on the one that is named default")
		}
	}
}

func (c *checker) communities(s *BGPConfigurationSpec) {
	defined := map[string]bool{}
	for i, community := range s.Communities {
		path := at("spec.communities", i)
		if !isName(community.Name, 127) {
			c.add(path+".name", community.Name, "want a-z, 0-9, dashes and dots inside, at most 253 characters")
		}
		if !isCommunity(community.Value) {
			c.add(path+".value", community.Value, "want AA:NN with parts up to 65535, or AA:NN:MM with parts up to 4294967295")
		}
		defined[community.Name] = true
	}
	if len(s.Communities) > 0 && len(s.PrefixAdvertisements) == 0 {
		c.add("spec.communities", fmt.Sprintf("%d communities", len(s.Communities)), "nothing uses them: add prefixAdvertisements or remove them")
	}
	if len(s.Communities) > 500 || len(s.PrefixAdvertisements) > 500 {
		c.add("spec.communities", fmt.Sprintf("%d, with %d prefixAdvertisements", len(s.Communities), len(s.PrefixAdvertisements)),
			"want at most 500 of each")
	}
	for i, a := range s.PrefixAdvertisements {
		path := at("spec.prefixAdvertisements", i)
		c.network(path+".cidr", a.CIDR)
		if n := len(a.Communities); n == 0 || n > 50 {
			c.add(path+".communities", fmt.Sprintf("%d communities", n), "want 1 to 50")
		}
		for j, community := range a.Communities {
			if !defined[community] && !isCommunity(community) {
				c.add(at(path+".communities", j), community, "want the name of one of spec.communities, AA:NN or AA:NN:MM")
			}
		}
	}
}

func isCommunity(text string) bool {
	parts := strings.Split(text, ":")
	bits := 32
	if len(parts) == 2 {
		bits = 16
	}
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, bits); err != nil {
			return false
		}
	}
	return len(parts) == 2 || len(parts) == 3
}

func (c *checker) bgpPeer(p *BGPPeer) {
	s := &p.Spec
	c.name(p.Name, 127)
	if s.Node != "" {
		c.nodeName("spec.node", s.Node)
	}
	if s.Node != "" && s.NodeSelector != "" {
		c.add("spec.nodeSelector", s.NodeSelector, "cannot be combined with node: remove one")
	}
	c.selector("spec.nodeSelector", s.NodeSelector)
	c.selector("spec.peerSelector", s.PeerSelector)
	c.selector("spec.localWorkloadSelector", s.LocalWorkloadSelector)
	c.whoToPeerWith(s)
	c.optionalOneOf("spec.nextHopMode", s.NextHopMode, "Auto", "Self", "Keep")
	if s.NextHopMode != nil && s.KeepOriginalNextHop {
		c.add("spec.keepOriginalNextHop", true, "cannot be combined with nextHopMode: remove it")
	}
	c.oneOf("spec.sourceAddress", s.SourceAddress, "UseNodeIP", "None")
	c.optionalOneOf("spec.reversePeering", s.ReversePeering, "Auto", "Manual")
	c.password("spec.password", s.Password)
	if s.MaxPrefixes != nil {
		c.between("spec.maxPrefixes", int64(*s.MaxPrefixes), 1, math.MaxUint32)
	}
	for i, name := range s.Filters {
		if !isName(name, 127) {
			c.add(at("spec.filters", i), name, "want the name of a BGPFilter: a-z, 0-9, dashes and dots inside")
		}
	}
}

// password checks that a password has at most one source. Calico accepts one without a source, and so must we; there is no session then.
func (c *checker) password(path string, p *BGPPassword) {
	if p == nil {
		return
	}
	if p.FromFile != "" && (!filepath.IsAbs(p.FromFile) || strings.ContainsRune(p.FromFile, 0)) {
		c.add(path+".fromFile", p.FromFile, "want the absolute path of a file, such as /etc/margay/bgp-password")
	}
	if p.FromEnv != "" && !isPasswordVariable(p.FromEnv) {
		c.add(path+".fromEnv", p.FromEnv, "want the name of an environment variable: letters, digits and _, not beginning with a digit, FELIX_ or ETCD_")
	}
	if p.FromFile != "" && p.FromEnv != "" || p.SecretKeyRef != nil && p.FromFile+p.FromEnv != "" {
		c.add(path, p, "want only one of secretKeyRef, fromFile and fromEnv: remove the others")
	}
}

// isPasswordVariable says whether a variable may hold a password of BGP. Settings of felix and secrets of etcd must not be used as one:
// a peer can find out a short password from the signatures.
func isPasswordVariable(name string) bool {
	upper := strings.ToUpper(name)
	return hasOnly(name, "_") && !strings.HasPrefix(upper, "FELIX_") && !strings.HasPrefix(upper, "ETCD_") && (name[0] < '0' || name[0] > '9')
}

// whoToPeerWith checks the three fields that name the peer: only one of them may be set.
func (c *checker) whoToPeerWith(s *BGPPeerSpec) {
	address, ok := PeerAddress(s.PeerIP)
	if s.PeerIP != "" && !ok {
		c.add("spec.peerIP", s.PeerIP, "want an address, 192.0.2.1:PORT or [2001:db8::1]:PORT; a link-local address with its interface: fe80::1%%eth0")
	}
	ways := 0
	for _, way := range []string{s.PeerIP, s.PeerSelector, s.LocalWorkloadSelector} {
		if way != "" {
			ways++
		}
	}
	if ways > 1 {
		c.add("spec.peerIP", s.PeerIP, "want only one of peerIP, peerSelector and localWorkloadSelector: remove the others")
	}
	if s.PeerSelector != "" && s.ASNumber != 0 {
		c.add("spec.asNumber", s.ASNumber, "remove it: with peerSelector the nodes' own AS numbers count")
	}
	if s.LocalWorkloadSelector != "" && s.ASNumber == 0 {
		c.add("spec.asNumber", 0, "missing: localWorkloadSelector needs one, 1 to 4294967295")
	}
	if s.ReachableBy == "" {
		return
	}
	c.address("spec.reachableBy", s.ReachableBy, 0)
	by, err := ParseAddr(s.ReachableBy)
	switch {
	case s.PeerIP == "":
		c.add("spec.reachableBy", s.ReachableBy, "only with a peerIP")
	case err == nil && ok && by.Is4() != address.Addr().Is4():
		c.add("spec.reachableBy", s.ReachableBy, "want an address of the same family as peerIP")
	}
}

// PeerAddress parses the address of a peer: an address, V4:PORT or [ADDRESS]:PORT. The port is 0 if it is left out. It returns false
// for text that is not valid.
func PeerAddress(text string) (netip.AddrPort, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a, 0), isPeer(a)
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return netip.AddrPort{}, false
	}
	a, err := netip.ParseAddr(host)
	n, notPort := strconv.ParseUint(port, 10, 16)
	if err != nil || notPort != nil || n == 0 || len(port) > 5 || !isPeer(a) {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, uint16(n)), true
}

// isPeer says whether an address can be a peer: not an IPv4-mapped IPv6 address, and only a link-local one has a zone.
func isPeer(a netip.Addr) bool {
	return !a.Is4In6() && (a.Zone() == "" || a.IsLinkLocalUnicast() && isInterfaceName(a.Zone()))
}

// isInterfaceName says whether the kernel takes a name for an interface (dev_valid_name in net/core/dev.c). A number is left out: in a
// zone it is the index of an interface, which another one may have after a reboot.
func isInterfaceName(name string) bool {
	_, notNumber := strconv.ParseUint(name, 10, 64)
	return len(name) <= 15 && name != "." && name != ".." && !strings.ContainsAny(name, "/: \t\n\v\f\r") && notNumber != nil
}

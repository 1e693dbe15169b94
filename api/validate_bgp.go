package api

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
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
			c.net(at(path, i)+".cidr", block.CIDR, 0)
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
	if b.Name != "default" {
		c.onlyOnDefault(s)
	}
}

func (c *checker) optionalOneOf(path string, value *string, words ...string) {
	if value != nil {
		c.oneOf(path, *value, words...)
	}
}

// oneOfAnyCase checks a word whose case does not matter; an empty one is left out.
func (c *checker) oneOfAnyCase(path, value string, words ...string) {
	for _, w := range words {
		if strings.EqualFold(value, w) {
			return
		}
	}
	c.oneOf(path, value, words...)
}

func (c *checker) mesh(s *BGPConfigurationSpec) {
	c.duration("spec.nodeMeshMaxRestartTime", s.NodeMeshMaxRestartTime)
	if s.NodeToNodeMeshEnabled == nil || *s.NodeToNodeMeshEnabled {
		return
	}
	if s.NodeMeshPassword != nil {
		c.add("spec.nodeMeshPassword", "", "the mesh is disabled: remove it")
	}
	if s.NodeMeshMaxRestartTime != nil {
		c.add("spec.nodeMeshMaxRestartTime", s.NodeMeshMaxRestartTime, "the mesh is disabled: remove it")
	}
}

func (c *checker) duration(path string, d *Duration) {
	if d != nil && d.Duration < 0 {
		c.add(path, d, "want a duration that is not negative")
	}
}

func (c *checker) onlyOnDefault(s *BGPConfigurationSpec) {
	for path, given := range inOrder(map[string]bool{
		"spec.nodeToNodeMeshEnabled": s.NodeToNodeMeshEnabled != nil, "spec.asNumber": s.ASNumber != nil,
		"spec.serviceClusterIPs": len(s.ServiceClusterIPs) > 0, "spec.serviceExternalIPs": len(s.ServiceExternalIPs) > 0,
		"spec.serviceLoadBalancerIPs": len(s.ServiceLoadBalancerIPs) > 0, "spec.nodeMeshPassword": s.NodeMeshPassword != nil,
		"spec.nodeMeshMaxRestartTime": s.NodeMeshMaxRestartTime != nil,
	}) {
		if given {
			c.add(path, "", "Cannot set it on a non default BGP Configuration: set it on the one that is named default")
		}
	}
}

func (c *checker) communities(s *BGPConfigurationSpec) {
	defined := map[string]bool{}
	for i, community := range s.Communities {
		path := at("spec.communities", i)
		if community.Name == "" {
			c.add(path+".name", "", "missing")
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
		c.net(path+".cidr", a.CIDR, 0)
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
		c.add("spec.nodeSelector", s.NodeSelector, "cannot be combined with node")
	}
	c.selector("spec.nodeSelector", s.NodeSelector, false)
	c.selector("spec.peerSelector", s.PeerSelector, false)
	c.selector("spec.localWorkloadSelector", s.LocalWorkloadSelector, false)
	c.whoToPeerWith(s)
	c.optionalOneOf("spec.nextHopMode", s.NextHopMode, "Auto", "Self", "Keep")
	if s.NextHopMode != nil && s.KeepOriginalNextHop {
		c.add("spec.keepOriginalNextHop", true, "cannot be combined with nextHopMode: remove it")
	}
	c.oneOf("spec.sourceAddress", s.SourceAddress, "UseNodeIP", "None")
	c.optionalOneOf("spec.reversePeering", s.ReversePeering, "Auto", "Manual")
	c.duration("spec.maxRestartTime", s.MaxRestartTime)
	c.duration("spec.keepaliveTime", s.KeepaliveTime)
	if k := s.KeepaliveTime; k != nil && k.Duration > 0 && k.Duration < time.Second {
		c.add("spec.keepaliveTime", k, "want at least 1s")
	}
	for i, name := range s.Filters {
		if !isName(name, 127) {
			c.add(at("spec.filters", i), name, "want the name of a BGPFilter")
		}
	}
}

// whoToPeerWith checks the three ways to name the other side.
func (c *checker) whoToPeerWith(s *BGPPeerSpec) {
	address, ok := PeerAddress(s.PeerIP)
	if s.PeerIP != "" && !ok {
		c.add("spec.peerIP", s.PeerIP, "want an address, 192.0.2.1:PORT or [2001:db8::1]:PORT")
	}
	ways := 0
	for _, way := range []string{s.PeerIP, s.PeerSelector, s.LocalWorkloadSelector} {
		if way != "" {
			ways++
		}
	}
	if ways > 1 {
		c.add("spec.peerIP", s.PeerIP, "want only one of peerIP, peerSelector and localWorkloadSelector")
	}
	if s.PeerSelector != "" && s.ASNumber != 0 {
		c.add("spec.asNumber", s.ASNumber, "must be left out with peerSelector: the nodes' own AS numbers count")
	}
	if s.LocalWorkloadSelector != "" && s.ASNumber == 0 {
		c.add("spec.asNumber", "", "missing: localWorkloadSelector needs one")
	}
	if s.ReachableBy == "" {
		return
	}
	c.address("spec.reachableBy", s.ReachableBy, 0)
	by, err := ParseAddr(s.ReachableBy)
	switch {
	case s.PeerIP == "":
		c.add("spec.reachableBy", s.ReachableBy, "needs a peerIP")
	case err == nil && ok && by.Is4() != address.Addr().Is4():
		c.add("spec.reachableBy", s.ReachableBy, "must be of the same family as peerIP")
	}
}

// PeerAddress reads the address of a peer: an address, V4:PORT or [V6]:PORT. Without a port it is 0.
func PeerAddress(text string) (netip.AddrPort, bool) {
	if a, err := ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a, 0), true
	}
	p, err := netip.ParseAddrPort(text)
	return p, err == nil && p.Port() != 0 && !p.Addr().Is4In6() && p.Addr().Zone() == ""
}

package api

import (
	"net"
	"net/netip"
)

func (c *checker) hostEndpoint(h *HostEndpoint) {
	s := &h.Spec
	c.name(h.Name, 127)
	c.nodeName("spec.node", s.Node)
	if s.InterfaceName != "" && s.InterfaceName != "*" {
		c.interfaceName("spec.interfaceName", s.InterfaceName)
	}
	if s.InterfaceName == "" && len(s.ExpectedIPs) == 0 {
		c.add("spec.interfaceName", "", "missing: want the name of an interface, *, or expectedIPs")
	}
	for i, ip := range s.ExpectedIPs {
		c.address(at("spec.expectedIPs", i), ip, 0)
	}
	c.profiles(s.Profiles)
	for i, p := range s.Ports {
		path := at("spec.ports", i)
		if !isPortName(p.Name) {
			c.add(path+".name", p.Name, "want a-z, 0-9 and single dashes, with a letter, at most 15 characters")
		}
		c.endpointPort(path, p.Protocol, p.Port)
	}
}

func (c *checker) nodeName(path, name string) {
	if !isName(name, 127) {
		c.add(path, name, "want the name of a node: a-z, 0-9, dashes and dots inside")
	}
}

func (c *checker) interfaceName(path, name string) {
	if !isInterface(name) {
		c.add(path, name, "want the name of an interface: letters, digits, '_', '.' and '-', at most 15 characters")
	}
}

func (c *checker) profiles(names []string) {
	for i, p := range names {
		if !isName(p, 127) {
			c.add(at("spec.profiles", i), p, "want the name of a profile: a-z, 0-9, dashes and dots inside")
		}
	}
}

func (c *checker) endpointPort(path string, protocol Protocol, port uint16) {
	if !protocol.HasPorts() {
		c.add(path+".protocol", protocol, "want TCP, UDP or SCTP")
	}
	if port == 0 {
		c.add(path+".port", port, "want 1 to 65535")
	}
}

func (c *checker) workloadEndpoint(w *WorkloadEndpoint) {
	s := &w.Spec
	name, err := WorkloadEndpointName(*s)
	switch {
	case err != nil:
		c.add("metadata.name", w.Name, "%v", err)
	case w.Name != name:
		c.add("metadata.name", w.Name, "want %s, which is made of spec.node, orchestrator, workload and endpoint; "+
			"or leave the name out", name)
	default:
		c.name(w.Name, 127)
	}
	if _, _, err := AddressRequestOf(w); err != nil {
		c.add("metadata.annotations["+AddressAnnotation+"]", w.Annotations[AddressAnnotation], "%v", err)
	}
	c.nodeName("spec.node", s.Node)
	for path, name := range inOrder(map[string]string{"spec.orchestrator": s.Orchestrator, "spec.workload": s.Workload, "spec.pod": s.Pod,
		"spec.endpoint": s.Endpoint, "spec.serviceAccountName": s.ServiceAccountName}) {
		if name != "" && !isName(name, 127) {
			c.add(path, name, "want a-z, 0-9, dashes and dots inside, at most 253 characters")
		}
	}
	if s.ContainerID != "" && !isWord(s.ContainerID, "-", 1024) {
		c.add("spec.containerID", s.ContainerID, "want letters, digits and dashes inside")
	}
	if s.InterfaceName != "*" {
		c.interfaceName("spec.interfaceName", s.InterfaceName)
	}
	networks := c.hostNetworks("spec.ipNetworks", s.IPNetworks)
	c.nats(s.IPNATs, networks)
	if s.IPv4Gateway != "" {
		c.address("spec.ipv4Gateway", s.IPv4Gateway, 4)
	}
	if s.IPv6Gateway != "" {
		c.address("spec.ipv6Gateway", s.IPv6Gateway, 6)
	}
	c.profiles(s.Profiles)
	if _, err := net.ParseMAC(s.MAC); s.MAC != "" && err != nil {
		c.add("spec.mac", s.MAC, "want a MAC address such as ee:ee:ee:ee:ee:ee")
	}
	c.workloadPorts(s.Ports)
	for i, p := range s.AllowSpoofedSourcePrefixes {
		c.net(at("spec.allowSpoofedSourcePrefixes", i), p, 0)
	}
}

// hostNetworks checks networks that must contain a single address each.
func (c *checker) hostNetworks(path string, texts []string) []netip.Prefix {
	var networks []netip.Prefix
	for i, text := range texts {
		p, ok := c.net(at(path, i), text, 0)
		if ok && !p.IsSingleIP() {
			c.add(at(path, i), text, "want one address: a /32, a /128 or without a prefix length")
		}
		networks = append(networks, p)
	}
	return networks
}

func (c *checker) nats(nats []IPNAT, networks []netip.Prefix) {
	for i, n := range nats {
		path := at("spec.ipNATs", i)
		internal, errIn := ParseAddr(n.InternalIP)
		external, errOut := ParseAddr(n.ExternalIP)
		switch {
		case errIn != nil:
			c.add(path+".internalIP", n.InternalIP, "want an address")
		case errOut != nil:
			c.add(path+".externalIP", n.ExternalIP, "want an address")
		case internal.Is4() != external.Is4():
			c.add(path+".externalIP", n.ExternalIP, "want an address of the same family as internalIP")
		case !within(internal, networks):
			c.add(path+".internalIP", n.InternalIP, "want one of spec.ipNetworks")
		}
	}
}

func within(a netip.Addr, networks []netip.Prefix) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

func (c *checker) workloadPorts(ports []WorkloadPort) {
	for i, p := range ports {
		path := at("spec.ports", i)
		c.endpointPort(path, p.Protocol, p.Port)
		switch {
		case p.Name == "" && p.HostPort == 0:
			c.add(path+".name", "", "missing: only a port with a hostPort may have none")
		case p.Name != "" && !isPortName(p.Name):
			c.add(path+".name", p.Name, "want a-z, 0-9 and single dashes, with a letter, at most 15 characters")
		}
		if p.HostIP != "" {
			c.hostIP(path+".hostIP", p.HostIP)
		}
	}
}

// hostIP checks a host address of a port. A network is accepted too, as in Calico.
func (c *checker) hostIP(path, text string) {
	if p, ok := c.net(path, text, 0); ok && hasHostBits(text) {
		c.add(path, text, "address bits outside of the prefix are set: did you mean %s?", p)
	}
}

package bgp

import "net"

// hasPeerOn says whether there is a peer with a link-local address on an interface.
func (s *Speaker) hasPeerOn(device string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		if p.session.Address.Zone() == device {
			return true
		}
	}
	return false
}

// renewZones makes package net read the indexes of interfaces, with which GoBGP connects to link-local addresses. The package keeps them for
// a minute, so it would go on with the index of an interface that was deleted. It reads them at once when it is asked for a name that it does
// not know (ipv6ZoneCache in net/interface.go). No packet is sent: the socket is not used.
func renewZones() {
	c, err := net.DialUDP("udp6", nil, &net.UDPAddr{IP: net.IPv6linklocalallnodes, Port: 9, Zone: "no interface has such a long name"})
	if err == nil {
		_ = c.Close()
	}
}

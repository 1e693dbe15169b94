package classifier

import (
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// portBases are the stretches of the lines that stand for protocols with ports, typeBases those of ICMP and ICMPv6.
var (
	portBases = [...]uint32{layout.ServiceTCP, layout.ServiceUDP, layout.ServiceSCTP, layout.ServiceUDPLite}
	typeBases = [...]uint32{layout.ServiceICMP, layout.ServiceICMPv6}
)

// portBase returns the first point of a protocol that has ports: TCP, UDP, SCTP or UDPLite.
func portBase(protocol uint8) (base uint32, ok bool) {
	switch protocol {
	case 6:
		return layout.ServiceTCP, true
	case 17:
		return layout.ServiceUDP, true
	case 132:
		return layout.ServiceSCTP, true
	case 136:
		return layout.ServiceUDPLite, true
	}
	return 0, false
}

// typeBase returns the first point of ICMP or ICMPv6, whose points are type * 256 + code.
func typeBase(protocol uint8) (base uint32, ok bool) {
	switch protocol {
	case 1:
		return layout.ServiceICMP, true
	case 58:
		return layout.ServiceICMPv6, true
	}
	return 0, false
}

// stretch is the distance from the first point of a protocol to its last.
const stretch = 1<<16 - 1

// servicesOf returns the services that a rule's protocols, ICMP types and destination ports allow.
func servicesOf(r *calc.Rule) intervals {
	s := protocolsOf(r)
	if len(r.Destination.Ports) > 0 {
		s = s.and(portPoints(r.Destination.Ports, r.Protocol))
	}
	if len(r.Destination.NotPorts) > 0 {
		s = s.and(portPoints(r.Destination.NotPorts, 0).not(layout.Services))
	}
	return s
}

// protocolsOf returns the services that a rule's protocols and ICMP types allow.
func protocolsOf(r *calc.Rule) intervals {
	s := intervals{{0, layout.Services - 1}}
	if r.Protocol != 0 {
		s = s.and(protocolPoints(r.Protocol))
	}
	if r.NotProtocol != 0 {
		s = s.and(protocolPoints(r.NotProtocol).not(layout.Services))
	}
	if r.ICMP != nil {
		s = s.and(icmpPoints(*r.ICMP))
	}
	if r.NotICMP != nil {
		s = s.and(icmpPoints(*r.NotICMP).not(layout.Services))
	}
	return s
}

// sourcePortsOf returns the source ports that a rule allows. A rule about ports is limited to its protocol here; the
// service excludes other protocols in any case.
func sourcePortsOf(r *calc.Rule) intervals {
	s := intervals{{0, layout.SourcePorts - 1}}
	if len(r.Source.Ports) > 0 {
		s = s.and(portPoints(r.Source.Ports, r.Protocol))
	}
	if len(r.Source.NotPorts) > 0 {
		s = s.and(portPoints(r.Source.NotPorts, 0).not(layout.SourcePorts))
	}
	if len(r.Source.Ports)+len(r.Source.NotPorts) > 0 {
		s = s.and(onlyProtocol(r)) // the service takes care of the rest
	}
	return s
}

// onlyProtocol returns the source ports of a rule's protocol, or all points if the protocol has none.
func onlyProtocol(r *calc.Rule) intervals {
	if base, ok := portBase(r.Protocol); ok {
		return intervals{{base, base + stretch}}
	}
	return intervals{{0, layout.SourcePorts - 1}}
}

// protocolPoints returns the services of a protocol.
func protocolPoints(p uint8) intervals {
	if base, ok := portBase(p); ok {
		return intervals{{base, base + stretch}}
	}
	if base, ok := typeBase(p); ok {
		return intervals{{base, base + stretch}}
	}
	return intervals{{layout.ServiceOther + uint32(p), layout.ServiceOther + uint32(p)}}
}

// portPoints returns the points of some ports, for one protocol if that has ports, else for all four that have.
func portPoints(ranges []calc.PortRange, protocol uint8) intervals {
	bases := portBases[:]
	if base, ok := portBase(protocol); ok {
		bases = []uint32{base}
	}
	s := make(intervals, 0, len(bases)*len(ranges))
	for _, base := range bases {
		for _, r := range ranges {
			if r.First <= r.Last {
				s = append(s, interval{base + uint32(r.First), base + uint32(r.Last)})
			}
		}
	}
	return normal(s)
}

// icmpPoints returns the services of ICMP types and codes, for both families: a negative type or code stands for all.
func icmpPoints(i calc.ICMP) intervals {
	var s intervals
	for _, base := range typeBases {
		switch {
		case i.Type < 0 && i.Code < 0:
			s = append(s, interval{base, base + stretch})
		case i.Code < 0:
			first := base + uint32(i.Type)*256
			s = append(s, interval{first, first + 255})
		case i.Type < 0:
			for t := range uint32(256) {
				p := base + t*256 + uint32(i.Code)
				s = append(s, interval{p, p})
			}
		default:
			p := base + uint32(i.Type)*256 + uint32(i.Code)
			s = append(s, interval{p, p})
		}
	}
	return normal(s)
}

// Service is the point of a packet on the line of services: see enum service_base in bpf/layout.h.
func Service(p calc.Packet) uint32 {
	if base, ok := portBase(p.Protocol); ok {
		return base + uint32(p.DestinationPort)
	}
	if base, ok := typeBase(p.Protocol); ok {
		return base + uint32(p.ICMPType)*256 + uint32(p.ICMPCode)
	}
	return layout.ServiceOther + uint32(p.Protocol)
}

// SourcePort is the point of a packet on the line of source ports; protocols without ports share one point.
func SourcePort(p calc.Packet) uint32 {
	if base, ok := portBase(p.Protocol); ok {
		return base + uint32(p.SourcePort)
	}
	return layout.SourcePortNone
}

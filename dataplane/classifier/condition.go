package classifier

import (
	"net/netip"
	"slices"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// interval is inclusive at both ends, on the line of services or of source ports.
type interval struct{ first, last uint32 }

// intervals are ascending and do not touch.
type intervals []interval

// portBases are the stretches of the lines that stand for protocols with ports, typeBases those of ICMP and ICMPv6.
var (
	portBases = [...]uint32{layout.ServiceTCP, layout.ServiceUDP, layout.ServiceSCTP, layout.ServiceUDPLite}
	typeBases = [...]uint32{layout.ServiceICMP, layout.ServiceICMPv6}
)

// portBase is the stretch of a protocol with ports.
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

// typeBase is the stretch of a protocol with types and codes.
func typeBase(protocol uint8) (base uint32, ok bool) {
	switch protocol {
	case 1:
		return layout.ServiceICMP, true
	case 58:
		return layout.ServiceICMPv6, true
	}
	return 0, false
}

const stretch = 1<<16 - 1

// normal sorts and merges.
func normal(s intervals) intervals {
	slices.SortFunc(s, func(a, b interval) int { return int(a.first) - int(b.first) })
	out := s[:0]
	for _, i := range s {
		if n := len(out); n > 0 && i.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, i.last)
			continue
		}
		out = append(out, i)
	}
	return out
}

// not is the rest of a line of so many points.
func (s intervals) not(points uint32) intervals {
	var out intervals
	next := uint32(0)
	for _, i := range s {
		if i.first > next {
			out = append(out, interval{next, i.first - 1})
		}
		next = i.last + 1
	}
	if next < points {
		out = append(out, interval{next, points - 1})
	}
	return out
}

func (s intervals) and(t intervals) intervals {
	var out intervals
	for len(s) > 0 && len(t) > 0 {
		first, last := max(s[0].first, t[0].first), min(s[0].last, t[0].last)
		if first <= last {
			out = append(out, interval{first, last})
		}
		if s[0].last < t[0].last {
			s = s[1:]
		} else {
			t = t[1:]
		}
	}
	return out
}

// servicesOf returns the points that a rule's protocol, ICMP and destination ports allow.
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

// protocolsOf returns the points that a rule's protocol and ICMP allow.
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

// sourcePortsOf returns the points that a rule's source ports allow.
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

// onlyProtocol returns the source ports of a rule's protocol, all if that has none.
func onlyProtocol(r *calc.Rule) intervals {
	if base, ok := portBase(r.Protocol); ok {
		return intervals{{base, base + stretch}}
	}
	return intervals{{0, layout.SourcePorts - 1}}
}

func protocolPoints(p uint8) intervals {
	if base, ok := portBase(p); ok {
		return intervals{{base, base + stretch}}
	}
	if base, ok := typeBase(p); ok {
		return intervals{{base, base + stretch}}
	}
	return intervals{{layout.ServiceOther + uint32(p), layout.ServiceOther + uint32(p)}}
}

// portPoints are those of some ports, of all protocols that have ports or of the one that matters.
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

// Service is the point of a packet on the line of services.
func Service(p calc.Packet) uint32 {
	if base, ok := portBase(p.Protocol); ok {
		return base + uint32(p.DestinationPort)
	}
	if base, ok := typeBase(p.Protocol); ok {
		return base + uint32(p.ICMPType)*256 + uint32(p.ICMPCode)
	}
	return layout.ServiceOther + uint32(p.Protocol)
}

// SourcePort is the point of a packet on the line of source ports.
func SourcePort(p calc.Packet) uint32 {
	if base, ok := portBase(p.Protocol); ok {
		return base + uint32(p.SourcePort)
	}
	return layout.SourcePortNone
}

// family is what a rule asks of the address family, as far as its nets do not already imply it.
type family uint8

const (
	anyFamily family = iota
	onlyV4
	onlyV6
)

func familyOf(r *calc.Rule) family {
	nets := func(is func(netip.Addr) bool, lists ...[]netip.Prefix) bool {
		for _, l := range lists {
			if len(l) > 0 && !slices.ContainsFunc(l, func(p netip.Prefix) bool { return !is(p.Addr()) }) {
				return true
			}
		}
		return false
	}
	switch {
	case r.V4 && r.V6:
	case r.V4 && !nets(netip.Addr.Is4, r.Source.Nets, r.Destination.Nets):
		return onlyV4
	case r.V6 && !nets(netip.Addr.Is6, r.Source.Nets, r.Destination.Nets):
		return onlyV6
	}
	return anyFamily
}

// sameRule says whether two rules match the same packets and do the same, but for the names of their ports, which their
// variants tell.
func sameRule(a, b *calc.Rule) bool {
	icmp := func(x, y *calc.ICMP) bool { return x == y || x != nil && y != nil && *x == *y }
	match := func(x, y *calc.Match) bool {
		return x.Set == y.Set && x.NotSet == y.NotSet &&
			slices.Equal(x.Nets, y.Nets) && slices.Equal(x.NotNets, y.NotNets) &&
			slices.Equal(x.Ports, y.Ports) && slices.Equal(x.NotPorts, y.NotPorts)
	}
	return a.Action == b.Action && a.Never == b.Never && a.V4 == b.V4 && a.V6 == b.V6 &&
		a.Protocol == b.Protocol && a.NotProtocol == b.NotProtocol &&
		icmp(a.ICMP, b.ICMP) && icmp(a.NotICMP, b.NotICMP) &&
		match(&a.Source, &b.Source) && match(&a.Destination, &b.Destination)
}

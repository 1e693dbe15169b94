package classifier

import (
	"encoding/binary"
	"slices"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// variant is one of the cases of a rule with named ports. A name stands for different ports on different addresses, so
// the rule is the OR of its variants: one for its port numbers, and one for each port that a name stands for, with the
// addresses where it does. No packet meets two variants. They have slots of their own and share the rule's number.
type variant struct {
	key             string // equal for variants that match the same packets
	services, ports intervals
	source, dest    named
}

// named are the sets that a variant asks for on one side, besides those of the rule.
type named struct {
	in  calc.SetID   // empty: none
	out []calc.SetID // the address is in none of them
}

// portCase is one case in which one side of a rule has its ports.
type portCase struct {
	points intervals
	named
}

// variantsOf returns the variants of a rule that names ports. It is false for other rules, which are one item.
func variantsOf(r *calc.Rule) (variants []*variant, has bool) {
	if !hasNames(&r.Source) && !hasNames(&r.Destination) {
		return nil, false
	}
	services := protocolsOf(r)
	for _, s := range portCases(&r.Source, r.Protocol, layout.SourcePorts) {
		sources := s.points
		if len(r.Source.Ports)+len(r.Source.NotPorts) > 0 || hasNames(&r.Source) {
			sources = sources.and(onlyProtocol(r)) // the service takes care of the rest
		}
		for _, d := range portCases(&r.Destination, r.Protocol, layout.Services) {
			v := &variant{services: services.and(d.points), ports: sources, source: s.named, dest: d.named}
			if len(v.services) == 0 || len(v.ports) == 0 || !shareProtocol(v.services, v.ports) {
				continue
			}
			v.key = v.text()
			if !slices.ContainsFunc(variants, func(w *variant) bool { return w.key == v.key }) {
				variants = append(variants, v)
			}
		}
	}
	return variants, true
}

// hasNames says whether one side of a rule names ports.
func hasNames(m *calc.Match) bool { return m.Names != nil || m.NotNames != nil }

// portCases returns the cases of one side. They exclude each other, so that a packet meets a rule once.
func portCases(m *calc.Match, protocol uint8, points uint32) (cases []portCase) {
	numbers := portPoints(m.Ports, protocol)
	left := portPoints(m.NotPorts, 0).not(points)
	var positive []portCase
	if len(m.Ports) == 0 && m.Names == nil {
		positive = []portCase{{points: intervals{{0, points - 1}}}}
	}
	if len(m.Ports) > 0 {
		positive = append(positive, portCase{points: numbers})
	}
	names := standingFor(m.Names)
	for i, n := range names {
		c := portCase{points: pointOf(n).and(numbers.not(points)), named: named{in: n.Set}}
		for _, before := range names[:i] { // the port has several names
			if before.Protocol == n.Protocol && before.Port == n.Port {
				c.out = append(c.out, before.Set)
			}
		}
		positive = append(positive, c)
	}
	for _, p := range positive {
		for _, n := range exclusions(standingFor(m.NotNames), points) {
			c := portCase{points: p.points.and(left).and(n.points), named: named{in: p.in, out: slices.Concat(p.out, n.out)}}
			if len(c.points) > 0 {
				cases = append(cases, c)
			}
		}
	}
	return cases
}

// standingFor returns the ports that names stand for; nil has none.
func standingFor(n *calc.PortNames) []calc.NamedPort {
	if n == nil {
		return nil
	}
	return n.Ports
}

// exclusions returns the cases in which a packet has no port that a name stands for: it has another port, or the port
// is on an address where the name does not stand for it.
func exclusions(names []calc.NamedPort, points uint32) []portCase {
	var all intervals
	var cases []portCase
	for _, n := range names {
		at := pointOf(n)
		i := slices.IndexFunc(cases, func(c portCase) bool { return slices.Equal(c.points, at) })
		if i < 0 {
			i, all = len(cases), append(all, at...)
			cases = append(cases, portCase{points: at})
		}
		cases[i].out = append(cases[i].out, n.Set)
	}
	return append(cases, portCase{points: normal(all).not(points)})
}

// pointOf returns the point of a named port as intervals.
func pointOf(n calc.NamedPort) intervals {
	return portPoints([]calc.PortRange{{First: n.Port, Last: n.Port}}, n.Protocol)
}

// shareProtocol says whether some packet can have one of the services and one of the source ports. A protocol with
// ports has the same points on both lines.
func shareProtocol(services, ports intervals) bool {
	if slices.ContainsFunc(ports, func(i interval) bool { return i.last >= layout.SourcePortNone && i.first <= layout.SourcePortNone }) {
		return true
	}
	for _, base := range portBases {
		whole := intervals{{base, base + stretch}}
		if len(services.and(whole)) > 0 && len(ports.and(whole)) > 0 {
			return true
		}
	}
	return false
}

// text returns the key: the points and sets in binary.
func (v *variant) text() string {
	var b []byte
	for _, s := range []intervals{v.services, v.ports} {
		for _, i := range s {
			b = binary.LittleEndian.AppendUint32(b, i.first)
			b = binary.LittleEndian.AppendUint32(b, i.last)
		}
		b = append(b, 0xff, 0xff, 0xff, 0xff) // no point
	}
	for _, n := range []named{v.source, v.dest} {
		b = append(append(b, n.in...), 0)
		for _, id := range n.out {
			b = append(append(b, id...), 0)
		}
		b = append(b, 0)
	}
	return string(b)
}

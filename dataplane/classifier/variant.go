package classifier

import (
	"encoding/binary"
	"slices"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// variant is one way to meet the ports of a rule. A port's name stands for other ports on other addresses, so a rule
// with names is an OR of rules without, which only together are the rule: for the numbers, and for each port that a name
// stands for with the addresses where it does. They have slots of their own and the rule's number.
type variant struct {
	key             string // unlike those of the rule's others, and the same for what matches the same
	services, ports intervals
	source, dest    named
}

// named are the sets that a variant asks for beside those of the rule, for one side.
type named struct {
	in  calc.SetID   // empty: none
	out []calc.SetID // the address is in none of them
}

// portCase is one way in which one side of a rule has its ports.
type portCase struct {
	points intervals
	named
}

// variantsOf are those of a rule with names of ports; a rule without has none, and is one item.
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

func hasNames(m *calc.Match) bool { return m.Names != nil || m.NotNames != nil }

// portCases are disjoint, so that a packet meets a rule once.
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

func standingFor(n *calc.PortNames) []calc.NamedPort {
	if n == nil {
		return nil
	}
	return n.Ports
}

// exclusions are the cases of not being a port that a name stands for: being another port, or being it elsewhere.
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

func pointOf(n calc.NamedPort) intervals {
	return portPoints([]calc.PortRange{{First: n.Port, Last: n.Port}}, n.Protocol)
}

// shareProtocol says whether some packet can have a service and a source port of these; the points of a protocol with
// ports stand at the same place on both lines.
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

package calc

import (
	"net/netip"

	"github.com/margay-project/margay/api/selector"
)

// members are the sets that active policies name, and the names of ports.
type members struct {
	sets         map[SetID]*setNode
	ports        map[string]*portNode // by their use
	pending      []*setNode
	pendingPorts map[*portNode]struct{} // names that stand for another list of ports
	unusedPorts  map[*portNode]struct{} // that may have no user any more
}

func newMembers() members {
	return members{
		sets:         map[SetID]*setNode{},
		ports:        map[string]*portNode{},
		pendingPorts: map[*portNode]struct{}{},
		unusedPorts:  map[*portNode]struct{}{},
	}
}

// watcher is told of the entities that its selector matches. An entity may leave as another than it joined, if that has the
// same addresses and ports.
type watcher interface {
	owner
	join(*members, contribution)
	leave(*members, contribution)
}

// setNode is a set, and for each member how many entities contribute it.
type setNode struct {
	id      SetID
	of      *selector.Selector
	matcher *matcher  // nil for a named port
	parent  *portNode // of a named port
	number  portNumber
	refs    int
	count   map[prefix]uint32
	before  map[prefix]bool // what was pending: whether it was a member at the last flush
	listed  bool            // among the sets; a named port that no rule has to list is not
	pending bool
	sent    bool
}

func newSetNode(s setSource) *setNode {
	return &setNode{id: s.id(), of: s.of, count: map[prefix]uint32{}}
}

func (s *setNode) selector() *selector.Selector { return s.of }

func (s *setNode) join(m *members, t contribution) {
	for n := range t.nets {
		if s.count[n] == 0 {
			m.remember(s, n, false)
		}
		s.count[n]++
	}
}

func (s *setNode) leave(m *members, t contribution) {
	for n := range t.nets {
		if s.count[n]--; s.count[n] == 0 {
			m.remember(s, n, true)
			delete(s.count, n)
		}
	}
}

func (m *members) markSet(s *setNode) {
	if s.listed && !s.pending {
		s.pending = true
		m.pending = append(m.pending, s)
	}
}

func (m *members) remember(s *setNode, n prefix, member bool) {
	m.markSet(s)
	if !s.sent {
		return // it goes out whole
	}
	if s.before == nil {
		s.before = map[prefix]bool{}
	}
	if _, yes := s.before[n]; !yes {
		s.before[n] = member
	}
}

func (s *setNode) delta() (d SetDelta) {
	if !s.sent {
		d.Added = make([]netip.Prefix, 0, len(s.count))
		for n := range s.count {
			d.Added = append(d.Added, n.unpack())
		}
		return d
	}
	for n, was := range s.before {
		_, is := s.count[n]
		switch {
		case is && !was:
			d.Added = append(d.Added, n.unpack())
		case was && !is:
			d.Removed = append(d.Removed, n.unpack())
		}
	}
	return d
}

// portNode is what a port's name stands for on the endpoints that a selector matches: a set for each port.
type portNode struct {
	use      portUse
	matcher  *matcher
	refs     int
	policies map[PolicyID]struct{} // and former ones
	sets     map[portNumber]*setNode
}

func (p *portNode) selector() *selector.Selector {
	return selector.And(selector.Has(portLabel(p.use.name)), p.use.of)
}

func (p *portNode) setFor(n portNumber) *setNode {
	c := p.sets[n]
	if c == nil {
		c = newSetNode(p.use.set(n))
		c.parent, c.number = p, n
		p.sets[n] = c
	}
	return c
}

func (p *portNode) join(m *members, t contribution) {
	for _, port := range t.ports() {
		if port.name != p.use.name || !t.addressed() {
			continue
		}
		c := p.setFor(port.portNumber)
		if len(c.count) == 0 {
			m.pendingPorts[p] = struct{}{}
		}
		c.join(m, t)
	}
}

func (p *portNode) leave(m *members, t contribution) {
	for _, port := range t.ports() {
		if port.name != p.use.name || !t.addressed() {
			continue
		}
		c := p.sets[port.portNumber]
		if c.leave(m, t); len(c.count) > 0 {
			continue
		}
		m.pendingPorts[p] = struct{}{}
		if !c.listed {
			delete(p.sets, port.portNumber)
		}
	}
}

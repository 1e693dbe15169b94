package calc

import (
	"net/netip"

	"github.com/margay-project/margay/api/selector"
)

// members are the sets that active policies name, and the named ports that they use, with their members.
type members struct {
	sets         map[SetID]*setNode     // that a policy names; set by use, reset by flushSets
	ports        map[string]*portNode   // by portUse.String; set by portNode, reset by flushSets
	pending      []*setNode             // sets that may have changed; for flushSets
	pendingPorts map[*portNode]struct{} // names that stand for other numbers now; for activate
	unusedPorts  map[*portNode]struct{} // names that may have no reference left; for flushSets
}

func newMembers() members {
	return members{
		sets:         map[SetID]*setNode{},
		ports:        map[string]*portNode{},
		pendingPorts: map[*portNode]struct{}{},
		unusedPorts:  map[*portNode]struct{}{},
	}
}

// watcher is told of the entities that its selector matches: join when one starts to match, leave when it stops. It learns only an
// entity's contribution, not which entity it is.
type watcher interface {
	owner
	join(*members, contribution)
	leave(*members, contribution)
}

// setNode is a set of addresses: those of all entities that a selector matches, or those where a port's name stands for one number.
type setNode struct {
	id      SetID
	of      *selector.Selector
	matcher *matcher          // nil until a policy names the set; always nil for a named port, whose portNode has the matcher
	parent  *portNode         // nil: not of a named port
	number  portNumber        // of a named port
	refs    int               // active policies that name it
	count   map[prefix]uint32 // its members, and how many entities contribute each
	before  map[prefix]bool   // the prefixes that changed since the last flush: whether they were members then; only if sent
	listed  bool              // it is in members.sets; the set of a named port is not, until a rule names it
	pending bool              // it is in members.pending
	sent    bool              // it has been handed out
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

// markSet makes a set pending.
func (m *members) markSet(s *setNode) {
	if s.listed && !s.pending {
		s.pending = true
		m.pending = append(m.pending, s)
	}
}

// remember makes a set pending, and notes whether a prefix that is about to change was a member at the last flush.
func (m *members) remember(s *setNode, n prefix, member bool) {
	m.markSet(s)
	if !s.sent {
		return // all of its members are handed out
	}
	if s.before == nil {
		s.before = map[prefix]bool{}
	}
	if _, yes := s.before[n]; !yes {
		s.before[n] = member
	}
}

// delta is how the members changed since the last flush; all members if the set was not handed out yet.
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

// portNode is a port's name as a rule uses it: on the endpoints that a selector matches. Each number that the name stands for
// there has a set: the addresses of the endpoints where the name stands for it.
type portNode struct {
	use      portUse
	matcher  *matcher
	refs     int                   // how often active policies use it
	policies map[PolicyID]struct{} // that use the name, or did so before
	sets     map[portNumber]*setNode
}

func (p *portNode) selector() *selector.Selector {
	return selector.And(selector.Has(portLabel(p.use.name)), p.use.of)
}

// setFor finds or makes the set of a number.
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

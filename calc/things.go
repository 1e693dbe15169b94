package calc

import (
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
)

// things are all endpoints and network sets, and the sets that active policies name. There may be many, so what is kept
// of each is small: on a node nobody asks for the name of another node's endpoint.
type things struct {
	prints   prints
	ids      map[fingerprint]thingID
	list     []keptThing // by id
	free     []thingID
	names    *labelNames
	profiles profiles
	families map[string]*family // of several profiles or none, by their names
	index    *index             // selectors of sets
	members
}

// keptThing is a thing as it is kept.
type keptThing struct {
	thing
	family   *family // nil: there is no thing
	matching *matches
	nth      uint32 // among the family's children
}

func newThings(prints prints) things {
	t := things{
		prints:   prints,
		ids:      map[fingerprint]thingID{},
		names:    newLabelNames(),
		profiles: profiles{},
		families: map[string]*family{},
		members:  newMembers(),
	}
	return t
}

// find is the id of what has a key.
func (t *things) find(key api.Key) (thingID, bool) {
	id, there := t.ids[printOf(t.prints, key)]
	return id, there
}

func (t *things) labelsOf(id thingID) labels {
	k := &t.list[id]
	l := labels{names: t.names, own: k.labels()}
	if k.family != nil {
		l.inherited = k.family.profiles
	}
	return l
}

// indexed lets an index see all things.
func (t *things) indexed() indexed {
	return indexed{
		labelsOf: t.labelsOf,
		matching: func(id thingID) **matches { return &t.list[id].matching },
		each: func(yield func(thingID) bool) {
			for id := range t.list {
				if t.list[id].matching != nil && !yield(thingID(id)) {
					return
				}
			}
		},
	}
}

// updateThings takes in endpoints and network sets.
func (g *Graph) updateThings(byKind map[string][]api.Update) {
	for _, kind := range []string{api.KindGlobalNetworkSet, api.KindNetworkSet} {
		for _, u := range byKind[kind] {
			g.updateThing(u)
		}
	}
	for _, kind := range []string{api.KindWorkloadEndpoint, api.KindHostEndpoint} {
		for _, u := range byKind[kind] {
			g.updateThing(u)
			g.updateLocal(u)
		}
	}
}

func (g *Graph) updateThing(u api.Update) {
	t, profiles, problems, ok := readThing(g.things.names, u)
	g.problems.set(u.Key, "thing", problems...)
	print := printOf(g.prints, u.Key)
	id, known := g.things.ids[print]
	switch {
	case ok:
		if !known {
			id = g.things.allocate(print)
		}
		old, before := g.things.labelsOf(id), g.things.list[id].contribution()
		g.things.adopt(id, g.things.familyOf(profiles))
		g.things.list[id].thing = t
		g.relabel(id, old, before)
	case known:
		g.removeThing(id, print)
	}
}

func (t *things) allocate(print fingerprint) thingID {
	var id thingID
	if n := len(t.free); n > 0 {
		id, t.free = t.free[n-1], t.free[:n-1]
	} else {
		id = thingID(len(t.list))
		if n := len(t.list); n == cap(t.list) { // the largest slice that there is: with less to spare than append would leave
			t.list = append(make([]keptThing, 0, n+n/8+64), t.list...)
		}
		t.list = append(t.list, keptThing{})
	}
	t.ids[print] = id
	return id
}

// relabel moves a thing that had other labels and another contribution between sets.
func (g *Graph) relabel(id thingID, old labels, before contribution) {
	started, stopped := g.things.index.set(id, old)
	g.things.move(id, before, started, stopped)
	if e := g.local.byThing[id]; e != nil {
		g.reselect(e, old)
	}
}

func (g *Graph) removeThing(id thingID, print fingerprint) {
	t := &g.things
	old, before := t.labelsOf(id), t.list[id].contribution()
	for _, m := range t.index.remove(id, old) {
		m.owner.(watcher).leave(&t.members, before)
	}
	if e := g.local.byThing[id]; e != nil {
		g.local.index.remove(id, old)
		delete(g.local.byThing, id)
		e.hasThing = false
	}
	t.adopt(id, nil)
	t.list[id] = keptThing{}
	delete(t.ids, print)
	t.free = append(t.free, id)
}

// move takes a thing that had another contribution out of sets and puts it into others.
func (t *things) move(id thingID, before contribution, started, stopped []*matcher) {
	now := t.list[id].contribution()
	for _, m := range stopped {
		m.owner.(watcher).leave(&t.members, before)
	}
	for _, m := range started {
		m.owner.(watcher).join(&t.members, now)
	}
	if before == now {
		return
	}
	for _, m := range t.list[id].matching.by {
		if !slices.Contains(started, m) && !m.gone {
			m.owner.(watcher).join(&t.members, now)
			m.owner.(watcher).leave(&t.members, before)
		}
	}
}

// use counts one more or one less user of a set.
func (t *things) use(id SetID, s setSource, by int) {
	set := t.sets[id]
	if set == nil {
		if s.name == "" {
			set = newSetNode(s)
		} else {
			set = t.portNode(portUse{s.name, s.of}).child(s.number)
		}
		set.listed, t.sets[id] = true, set
	}
	set.refs += by
	t.touchSet(set)
	if s.name == "" && set.matcher == nil && set.refs > 0 {
		set.matcher = t.watch(set)
	}
}

// watch lets something know of the things that its selector matches, of those that there are at once.
func (t *things) watch(who watcher) *matcher {
	m := &matcher{owner: who}
	for _, thing := range t.index.add(m, who.selector()) {
		who.join(&t.members, t.list[thing].contribution())
	}
	return m
}

// portNode finds or makes what knows of a port's name.
func (t *things) portNode(u portUse) *portNode {
	key := u.String()
	if p := t.ports[key]; p != nil {
		return p
	}
	p := &portNode{use: u, users: map[PolicyID]struct{}{}, children: map[portNumber]*setNode{}}
	t.ports[key] = p
	p.matcher = t.watch(p)
	return p
}

// numbersOf are the ports that a name stands for, in order.
func (t *things) numbersOf(u portUse) []portNumber {
	p := t.portNode(u)
	stands := map[portNumber]struct{}{}
	for n, child := range p.children {
		if len(child.count) > 0 {
			stands[n] = struct{}{}
		}
	}
	return sortedNumbers(stands)
}

// usePort counts a policy as a user of a port's name, or not any more.
func (t *things) usePort(u portUse, id PolicyID, by int) {
	p := t.portNode(u)
	p.refs += by
	if by > 0 {
		p.users[id] = struct{}{}
	}
	if p.refs == 0 {
		t.portsLeft[p] = struct{}{}
	}
}

// flushSets drops sets and names of ports that have no user left, and says what changed in the other sets.
func (t *things) flushSets() (changed map[SetID]SetDelta, gone []SetID) {
	for _, s := range t.touched {
		s.touched = false
		if s.refs == 0 {
			if s.sent {
				gone = append(gone, s.id)
			}
			switch {
			case s.matcher != nil:
				t.index.drop(s.matcher)
			case s.parent != nil && len(s.count) == 0:
				delete(s.parent.children, s.number)
			}
			s.sent, s.before, s.listed = false, nil, false
			delete(t.sets, s.id)
			continue
		}
		d := s.delta()
		if !s.sent || len(d.Added)+len(d.Removed) > 0 {
			if changed == nil {
				changed = map[SetID]SetDelta{}
			}
			changed[s.id] = d
		}
		s.sent, s.before = true, nil
	}
	t.touched = nil
	for p := range t.portsLeft {
		if p.refs == 0 {
			t.index.drop(p.matcher)
			delete(t.ports, p.use.String())
		}
	}
	t.portsLeft = emptied(t.portsLeft)
	return changed, gone
}

// Having says which of some addresses an endpoint of any node, or a network set, has by itself. Use it rarely: it looks at
// every endpoint.
func (g *Graph) Having(addrs map[netip.Addr]bool) map[netip.Addr]bool {
	found := map[netip.Addr]bool{}
	for i := range g.things.list {
		for n := range g.things.list[i].contribution().nets {
			if p := n.unpack(); p.IsSingleIP() && addrs[p.Addr()] {
				found[p.Addr()] = true
			}
		}
	}
	return found
}

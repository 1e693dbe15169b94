package calc

import (
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

// things are all endpoints and network sets, and the sets that active policies name.
type things struct {
	ids      map[api.Key]thingID
	list     []thing // by id; labels with those of the profiles
	free     []thingID
	children map[string]map[thingID]struct{} // by profile
	index    *index                          // selectors of sets
	members
}

func newThings() things {
	return things{
		ids:      map[api.Key]thingID{},
		children: map[string]map[thingID]struct{}{},
		members:  newMembers(),
	}
}

// updateThings lets changed profiles change the labels of their things, and takes in endpoints and network sets.
func (g *Graph) updateThings(byKind map[string][]api.Update) {
	for _, u := range byKind[kindProfile] {
		for id := range g.things.children[u.Key.Name] {
			g.relabel(id, g.things.list[id])
		}
	}
	for _, kind := range []string{kindGlobalSet, kindSet} {
		for _, u := range byKind[kind] {
			g.updateThing(u)
		}
	}
	for _, kind := range []string{kindWorkload, kindHost} {
		for _, u := range byKind[kind] {
			g.updateThing(u)
			g.updateLocal(u)
		}
	}
}

func (g *Graph) updateThing(u api.Update) {
	t, problems, ok := readThing(u)
	g.problems.set(u.Key, "thing", problems...)
	id, known := g.things.ids[u.Key]
	switch {
	case ok && !known:
		id = g.things.allocate(u.Key)
		fallthrough
	case ok:
		g.things.adopt(id, g.things.list[id].profiles, t.profiles)
		g.things.index.share(t.labels)
		g.relabel(id, t)
	case known:
		g.removeThing(id, u.Key)
	}
}

func (t *things) allocate(key api.Key) thingID {
	var id thingID
	if n := len(t.free); n > 0 {
		id, t.free = t.free[n-1], t.free[:n-1]
	} else {
		id = thingID(len(t.list))
		t.list = append(t.list, thing{})
	}
	t.ids[key] = id
	return id
}

// adopt makes a thing the child of its new profiles instead of its old ones.
func (t *things) adopt(id thingID, old, now []string) {
	if slices.Equal(old, now) {
		return
	}
	for _, name := range old {
		delete(t.children[name], id)
		if len(t.children[name]) == 0 {
			delete(t.children, name)
		}
	}
	for _, name := range now {
		if t.children[name] == nil {
			t.children[name] = map[thingID]struct{}{}
		}
		t.children[name][id] = struct{}{}
	}
}

// relabel gives a thing its labels, the profiles' included, and moves it between sets.
func (g *Graph) relabel(id thingID, t thing) {
	t.labels.profiles = nil
	for _, name := range t.profiles {
		if p := g.profiles[name]; p != nil && len(p.labels) > 0 {
			t.labels.profiles = append(t.labels.profiles, p.labels)
		}
	}
	old := g.things.list[id]
	g.things.list[id] = t
	started, stopped := g.things.index.set(id, old.labels)
	g.things.move(id, old, started, stopped)
	if e := g.local.byThing[id]; e != nil {
		g.reselect(e, old.labels)
	}
}

func (g *Graph) removeThing(id thingID, key api.Key) {
	t := &g.things
	old := t.list[id]
	t.adopt(id, old.profiles, nil)
	for _, m := range t.index.remove(id, old.labels) {
		t.byMatch[m].leave(&t.members, old)
	}
	if e := g.local.byThing[id]; e != nil {
		g.local.index.remove(id, old.labels)
		delete(g.local.byThing, id)
		e.hasThing = false
	}
	t.list[id] = thing{}
	delete(t.ids, key)
	t.free = append(t.free, id)
}

// move takes a thing that was old out of sets and puts it into others.
func (t *things) move(id thingID, old thing, started, stopped []*matcher) {
	now := t.list[id]
	for _, m := range stopped {
		t.byMatch[m].leave(&t.members, old)
	}
	for _, m := range started {
		t.byMatch[m].join(&t.members, now)
	}
	if slices.Equal(old.nets, now.nets) && slices.Equal(old.ports, now.ports) {
		return
	}
	for _, m := range t.index.all[id] {
		if !slices.Contains(started, m) && !m.gone {
			t.byMatch[m].join(&t.members, now)
			t.byMatch[m].leave(&t.members, old)
		}
	}
}

// use counts one more or one less user of a set.
func (t *things) use(id SetID, s setSource, by int) {
	set := t.sets[id]
	if set == nil {
		if s.name == "" {
			set = newSetNode(id)
		} else {
			set = t.portNode(portUse{s.name, s.of}).child(s.number)
		}
		set.listed, t.sets[id] = true, set
	}
	set.refs += by
	t.touchSet(set)
	if s.name == "" && set.matcher == nil && set.refs > 0 {
		set.matcher = t.watch(s.of, set)
	}
}

// watch lets something know of the things that a selector matches, of those that there are at once.
func (t *things) watch(s *selector.Selector, who watcher) *matcher {
	m, matched := t.index.add(s)
	t.byMatch[m] = who
	for _, thing := range matched {
		who.join(&t.members, t.list[thing])
	}
	return m
}

func (t *things) unwatch(m *matcher) {
	t.index.drop(m)
	delete(t.byMatch, m)
}

// portNode finds or makes what knows of a port's name.
func (t *things) portNode(u portUse) *portNode {
	key := u.String()
	if p := t.ports[key]; p != nil {
		return p
	}
	p := &portNode{use: u, users: map[PolicyID]struct{}{}, children: map[portNumber]*setNode{}}
	t.ports[key] = p
	p.matcher = t.watch(selector.And(selector.Has(portLabel(u.name)), u.of), p)
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
				t.unwatch(s.matcher)
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
			t.unwatch(p.matcher)
			delete(t.ports, p.use.String())
		}
	}
	clear(t.portsLeft)
	return changed, gone
}

package calc

import (
	"net/netip"
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
	sets     map[SetID]*setNode
	byMatch  map[*matcher]*setNode
	touched  map[SetID]struct{}
	setsGone []SetID
}

// setNode is a set that is active, and for each member how many things contribute it.
type setNode struct {
	id      SetID
	matcher *matcher
	refs    int
	count   map[netip.Prefix]uint32
	before  map[netip.Prefix]bool // what was touched: whether it was a member at the last flush
	sent    bool
}

func newThings() things {
	return things{
		ids:      map[api.Key]thingID{},
		children: map[string]map[thingID]struct{}{},
		sets:     map[SetID]*setNode{},
		byMatch:  map[*matcher]*setNode{},
		touched:  map[SetID]struct{}{},
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
	g.things.move(id, old.nets, started, stopped)
	if e := g.local.byThing[id]; e != nil {
		g.reselect(e, old.labels)
	}
}

func (g *Graph) removeThing(id thingID, key api.Key) {
	t := &g.things
	old := t.list[id]
	t.adopt(id, old.profiles, nil)
	for _, m := range t.index.remove(id, old.labels) {
		t.leave(t.byMatch[m], old.nets)
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

// move takes a thing that had these addresses out of sets and puts it into others.
func (t *things) move(id thingID, old []netip.Prefix, started, stopped []*matcher) {
	now := t.list[id].nets
	for _, m := range stopped {
		t.leave(t.byMatch[m], old)
	}
	for _, m := range started {
		t.join(t.byMatch[m], now)
	}
	if slices.Equal(old, now) {
		return
	}
	for _, m := range t.index.all[id] {
		if !slices.Contains(started, m) && !m.gone {
			t.join(t.byMatch[m], now)
			t.leave(t.byMatch[m], old)
		}
	}
}

func (t *things) join(s *setNode, nets []netip.Prefix) {
	for _, n := range nets {
		if s.count[n] == 0 {
			t.touch(s, n, false)
		}
		s.count[n]++
	}
}

func (t *things) leave(s *setNode, nets []netip.Prefix) {
	for _, n := range nets {
		if s.count[n]--; s.count[n] == 0 {
			t.touch(s, n, true)
			delete(s.count, n)
		}
	}
}

func (t *things) touch(s *setNode, n netip.Prefix, member bool) {
	t.touched[s.id] = struct{}{}
	if !s.sent {
		return // it goes out whole
	}
	if s.before == nil {
		s.before = map[netip.Prefix]bool{}
	}
	if _, yes := s.before[n]; !yes {
		s.before[n] = member
	}
}

// use counts one more or one less user of a set.
func (t *things) use(id SetID, s *selector.Selector, by int) {
	set := t.sets[id]
	if set == nil {
		set = &setNode{id: id, count: map[netip.Prefix]uint32{}}
		t.sets[id] = set
	}
	set.refs += by
	t.touched[id] = struct{}{}
	if set.matcher == nil && set.refs > 0 {
		m, matched := t.index.add(s)
		set.matcher, t.byMatch[m] = m, set
		for _, thing := range matched {
			t.join(set, t.list[thing].nets)
		}
	}
}

// flushSets drops sets that have no user left and says what changed in the others.
func (t *things) flushSets() (changed map[SetID]SetDelta, gone []SetID) {
	for id := range t.touched {
		s := t.sets[id]
		if s.refs == 0 {
			t.index.drop(s.matcher)
			delete(t.byMatch, s.matcher)
			delete(t.sets, id)
			if s.sent {
				gone = append(gone, id)
			}
			continue
		}
		d := s.delta()
		if !s.sent || len(d.Added)+len(d.Removed) > 0 {
			if changed == nil {
				changed = map[SetID]SetDelta{}
			}
			changed[id] = d
		}
		s.sent, s.before = true, nil
	}
	clear(t.touched)
	return changed, gone
}

func (s *setNode) delta() (d SetDelta) {
	if !s.sent {
		for n := range s.count {
			d.Added = append(d.Added, n)
		}
		return d
	}
	for n, was := range s.before {
		_, is := s.count[n]
		switch {
		case is && !was:
			d.Added = append(d.Added, n)
		case was && !is:
			d.Removed = append(d.Removed, n)
		}
	}
	return d
}

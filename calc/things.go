package calc

import (
	"encoding/binary"
	"hash/maphash"
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

// things are all endpoints and network sets, and the sets that active policies name. There may be many, so what is kept
// of each is small: on a node nobody asks for the name of another node's endpoint.
type things struct {
	seeds    [2]maphash.Seed
	ids      map[fingerprint]thingID
	list     []keptThing // by id
	free     []thingID
	names    *labelNames
	parents  map[string]*parent
	families map[string]*family
	index    *index // selectors of sets
	scratch  []byte
	members
}

// fingerprint stands for a key: 128 bits of two hashes that nobody outside can foresee, so two keys do not share one.
type fingerprint [16]byte

// keptThing is a thing as it is kept.
type keptThing struct {
	thing
	family   *family // nil: there is no thing
	matching *matches
	nth      uint32 // among the family's children
}

// parent is a profile as things see it.
type parent struct {
	labels   string
	families []*family
}

// family is a list of profiles that things have.
type family struct {
	key       string
	profiles  []string
	inherited []string // labels
	children  []thingID
}

func newThings() things {
	t := things{
		seeds:    [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		ids:      map[fingerprint]thingID{},
		names:    newLabelNames(),
		parents:  map[string]*parent{},
		families: map[string]*family{},
		members:  newMembers(),
	}
	return t
}

func (t *things) fingerprint(key api.Key) (print fingerprint) {
	binary.NativeEndian.PutUint64(print[:8], maphash.Comparable(t.seeds[0], key))
	binary.NativeEndian.PutUint64(print[8:], maphash.Comparable(t.seeds[1], key))
	return print
}

// find is the id of what has a key.
func (t *things) find(key api.Key) (thingID, bool) {
	id, there := t.ids[t.fingerprint(key)]
	return id, there
}

func (t *things) labelsOf(id thingID) labels {
	k := &t.list[id]
	l := labels{names: t.names, own: k.labels()}
	if k.family != nil {
		l.inherited = k.family.inherited
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

// updateThings lets changed profiles change the labels of their things, and takes in endpoints and network sets.
func (g *Graph) updateThings(byKind map[string][]api.Update) {
	for _, u := range byKind[kindProfile] {
		g.relabelChildren(u.Key.Name)
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

// relabelChildren gives a profile's labels to the things that have the profile.
func (g *Graph) relabelChildren(name string) {
	t := &g.things
	var now string
	if p := g.profiles[name]; p != nil {
		if p.labelled {
			return // it was updated twice, and this is the second time
		}
		now = t.names.pack(p.labels)
		p.labels, p.labelled = nil, true // they are kept packed
	}
	p := t.parents[name]
	if p == nil {
		if now == "" {
			return
		}
		p = &parent{}
		t.parents[name] = p
	}
	before := labels{names: t.names, own: p.labels}
	if sameLabels(before, labels{names: t.names, own: now}) {
		return
	}
	p.labels = now
	for _, f := range p.families {
		old := f.inherited
		f.inherited = t.inheritance(f.profiles)
		for _, id := range f.children {
			g.relabel(id, labels{names: t.names, own: t.list[id].labels(), inherited: old}, t.list[id].contribution())
		}
	}
	t.dropParent(name)
}

func (t *things) dropParent(name string) {
	if p := t.parents[name]; p != nil && p.labels == "" && len(p.families) == 0 {
		delete(t.parents, name)
	}
}

func sameLabels(a, b labels) bool {
	same, count := true, 0
	a.each(func(number uint64, value string) {
		v, has := b.get(number)
		same = same && has && v == value
		count++
	})
	b.each(func(uint64, string) { count-- })
	return same && count == 0
}

// familyOf finds or makes the family of some profiles.
func (t *things) familyOf(profiles []string) *family {
	key := t.familyKey(profiles)
	f := t.families[string(key)]
	if f == nil {
		f = &family{key: string(key), profiles: slices.Clone(profiles)}
		t.families[f.key] = f
		for i, name := range profiles {
			if slices.Contains(profiles[:i], name) {
				continue
			}
			if t.parents[name] == nil {
				t.parents[name] = &parent{}
			}
			p := t.parents[name]
			p.families = append(p.families, f)
		}
		f.inherited = t.inheritance(profiles)
	}
	return f
}

// familyKey is valid until the next call. No name contains a NUL.
func (t *things) familyKey(profiles []string) []byte {
	key := t.scratch[:0]
	for _, name := range profiles {
		key = append(append(key, name...), 0)
	}
	t.scratch = key
	return key
}

func (t *things) inheritance(profiles []string) (inherited []string) {
	for _, name := range profiles {
		if p := t.parents[name]; p != nil && p.labels != "" {
			inherited = append(inherited, p.labels)
		}
	}
	return inherited
}

// adopt makes a thing the child of a family instead of another; nil is none.
func (t *things) adopt(id thingID, to *family) {
	from, nth := t.list[id].family, t.list[id].nth
	if from == to {
		return
	}
	t.list[id].family = to
	if to != nil {
		t.list[id].nth = uint32(len(to.children))
		to.children = append(to.children, id)
	}
	if from == nil {
		return
	}
	last := len(from.children) - 1
	moved := from.children[last]
	from.children[nth], from.children = moved, from.children[:last]
	if moved != id {
		t.list[moved].nth = nth
	}
	if len(from.children) > 0 {
		return
	}
	delete(t.families, from.key)
	for _, name := range from.profiles {
		p := t.parents[name]
		if p == nil {
			continue
		}
		p.families = slices.DeleteFunc(p.families, func(f *family) bool { return f == from })
		t.dropParent(name)
	}
}

func (g *Graph) updateThing(u api.Update) {
	t, profiles, problems, ok := readThing(g.things.names, u)
	g.problems.set(u.Key, "thing", problems...)
	print := g.things.fingerprint(u.Key)
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
		t.byMatch[m].leave(&t.members, before)
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
		t.byMatch[m].leave(&t.members, before)
	}
	for _, m := range started {
		t.byMatch[m].join(&t.members, now)
	}
	if before == now {
		return
	}
	for _, m := range t.list[id].matching.by {
		if !slices.Contains(started, m) && !m.gone {
			t.byMatch[m].join(&t.members, now)
			t.byMatch[m].leave(&t.members, before)
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
		who.join(&t.members, t.list[thing].contribution())
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
	t.portsLeft = emptied(t.portsLeft)
	return changed, gone
}

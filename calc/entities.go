package calc

import (
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
)

// entities are all endpoints and network sets, and the sets that active policies name. There may be many, so what is kept
// of each is small: on a node nobody asks for the name of another node's endpoint.
type entities struct {
	prints       prints
	ids          map[fingerprint]entityID
	list         []keptEntity // by id
	free         []entityID
	names        *labelNames
	profiles     profiles
	profileLists map[string]*profileList // of several profiles or none, by their names
	index        *index                  // selectors of sets
	members
}

// keptEntity is an entity as it is kept.
type keptEntity struct {
	entity
	profiles *profileList // nil: no entity has this ID
	matching *matches
	atList   uint32 // its position in profiles.entities
}

func newEntities(prints prints) entities {
	t := entities{
		prints:       prints,
		ids:          map[fingerprint]entityID{},
		names:        newLabelNames(),
		profiles:     profiles{},
		profileLists: map[string]*profileList{},
		members:      newMembers(),
	}
	return t
}

// find is the id of what has a key.
func (t *entities) find(key api.Key) (entityID, bool) {
	id, there := t.ids[printOf(t.prints, key)]
	return id, there
}

func (t *entities) labelsOf(id entityID) labels {
	k := &t.list[id]
	l := labels{names: t.names, own: k.labels()}
	if k.profiles != nil {
		l.inherited = k.profiles.profiles
	}
	return l
}

// indexed lets an index see all entities.
func (t *entities) indexed() indexed {
	return indexed{
		labelsOf: t.labelsOf,
		matching: func(id entityID) **matches { return &t.list[id].matching },
		each: func(yield func(entityID) bool) {
			for id := range t.list {
				if t.list[id].matching != nil && !yield(entityID(id)) {
					return
				}
			}
		},
	}
}

// updateEntities takes in endpoints and network sets.
func (g *Graph) updateEntities(byKind map[string][]api.Update) {
	for _, kind := range []string{api.KindGlobalNetworkSet, api.KindNetworkSet} {
		for _, u := range byKind[kind] {
			g.updateEntity(u)
		}
	}
	for _, kind := range []string{api.KindWorkloadEndpoint, api.KindHostEndpoint} {
		for _, u := range byKind[kind] {
			g.updateEntity(u)
			g.updateLocal(u)
		}
	}
}

func (g *Graph) updateEntity(u api.Update) {
	t, profiles, problems, ok := readEntity(g.entities.names, u)
	g.problems.set(u.Key, "entity", problems...)
	print := printOf(g.prints, u.Key)
	id, known := g.entities.ids[print]
	switch {
	case ok:
		if !known {
			id = g.entities.allocate(print)
		}
		old, before := g.entities.labelsOf(id), g.entities.list[id].contribution()
		g.entities.inherit(id, g.entities.profileListOf(profiles))
		g.entities.list[id].entity = t
		g.relabel(id, old, before)
	case known:
		g.removeEntity(id, print)
	}
}

func (t *entities) allocate(print fingerprint) entityID {
	var id entityID
	if n := len(t.free); n > 0 {
		id, t.free = t.free[n-1], t.free[:n-1]
	} else {
		id = entityID(len(t.list))
		if n := len(t.list); n == cap(t.list) { // the largest slice that there is: with less to spare than append would leave
			t.list = append(make([]keptEntity, 0, n+n/8+64), t.list...)
		}
		t.list = append(t.list, keptEntity{})
	}
	t.ids[print] = id
	return id
}

// relabel moves an entity that had other labels and another contribution between sets.
func (g *Graph) relabel(id entityID, old labels, before contribution) {
	started, stopped := g.entities.index.set(id, old)
	g.entities.move(id, before, started, stopped)
	if e := g.local.byEntity[id]; e != nil {
		g.reselect(e, old)
	}
}

func (g *Graph) removeEntity(id entityID, print fingerprint) {
	t := &g.entities
	old, before := t.labelsOf(id), t.list[id].contribution()
	for _, m := range t.index.remove(id, old) {
		m.owner.(watcher).leave(&t.members, before)
	}
	if e := g.local.byEntity[id]; e != nil {
		g.local.index.remove(id, old)
		delete(g.local.byEntity, id)
		e.hasEntity = false
	}
	t.inherit(id, nil)
	t.list[id] = keptEntity{}
	delete(t.ids, print)
	t.free = append(t.free, id)
}

// move takes an entity that had another contribution out of sets and puts it into others.
func (t *entities) move(id entityID, before contribution, started, stopped []*matcher) {
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
func (t *entities) use(id SetID, s setSource, by int) {
	set := t.sets[id]
	if set == nil {
		if s.name == "" {
			set = newSetNode(s)
		} else {
			set = t.portNode(portUse{s.name, s.of}).setFor(s.number)
		}
		set.listed, t.sets[id] = true, set
	}
	set.refs += by
	t.markSet(set)
	if s.name == "" && set.matcher == nil && set.refs > 0 {
		set.matcher = t.watch(set)
	}
}

// watch lets something know of the entities that its selector matches, of those that there are at once.
func (t *entities) watch(who watcher) *matcher {
	m := &matcher{owner: who}
	for _, entity := range t.index.add(m, who.selector()) {
		who.join(&t.members, t.list[entity].contribution())
	}
	return m
}

// portNode finds or makes what knows of a port's name.
func (t *entities) portNode(u portUse) *portNode {
	key := u.String()
	if p := t.ports[key]; p != nil {
		return p
	}
	p := &portNode{use: u, policies: map[PolicyID]struct{}{}, sets: map[portNumber]*setNode{}}
	t.ports[key] = p
	p.matcher = t.watch(p)
	return p
}

// numbersOf are the ports that a name stands for, in order.
func (t *entities) numbersOf(u portUse) []portNumber {
	p := t.portNode(u)
	stands := map[portNumber]struct{}{}
	for n, set := range p.sets {
		if len(set.count) > 0 {
			stands[n] = struct{}{}
		}
	}
	return sortedNumbers(stands)
}

// usePort counts a policy as a user of a port's name, or not any more.
func (t *entities) usePort(u portUse, id PolicyID, by int) {
	p := t.portNode(u)
	p.refs += by
	if by > 0 {
		p.policies[id] = struct{}{}
	}
	if p.refs == 0 {
		t.unusedPorts[p] = struct{}{}
	}
}

// flushSets drops sets and names of ports that have no user left, and says what changed in the other sets.
func (t *entities) flushSets() (changed map[SetID]SetDelta, gone []SetID) {
	for _, s := range t.pending {
		s.pending = false
		if s.refs == 0 {
			if s.sent {
				gone = append(gone, s.id)
			}
			switch {
			case s.matcher != nil:
				t.index.drop(s.matcher)
			case s.parent != nil && len(s.count) == 0:
				delete(s.parent.sets, s.number)
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
	t.pending = nil
	for p := range t.unusedPorts {
		if p.refs == 0 {
			t.index.drop(p.matcher)
			delete(t.ports, p.use.String())
		}
	}
	t.unusedPorts = emptied(t.unusedPorts)
	return changed, gone
}

// Having says which of some addresses an endpoint of any node, or a network set, has by itself. Use it rarely: it looks at
// every endpoint.
func (g *Graph) Having(addrs map[netip.Addr]bool) map[netip.Addr]bool {
	found := map[netip.Addr]bool{}
	for i := range g.entities.list {
		for n := range g.entities.list[i].contribution().nets {
			if p := n.unpack(); p.IsSingleIP() && addrs[p.Addr()] {
				found[p.Addr()] = true
			}
		}
	}
	return found
}

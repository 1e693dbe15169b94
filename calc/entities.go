package calc

import (
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
)

// entities are all endpoints and network sets of the datastore, and the sets that active policies name. There may be many entities, so
// little is kept of each: not even its name, because a node never needs the name of another node's endpoint.
type entities struct {
	prints       prints
	ids          map[fingerprint]entityID // by the object's key; set by allocate, reset by removeEntity
	list         []keptEntity             // by ID
	free         []entityID               // IDs below len(list) that no entity has
	names        *labelNames
	profiles     profiles
	profileLists map[string]*profileList // those of no profile or of several, by their names; the others are profile.own
	index        *index                  // of the sets' selectors over all entities
	holders      holders
	members
}

// keptEntity is an entity as it is kept.
type keptEntity struct {
	entity
	profiles *profileList // whose labels it inherits; nil: no entity has this ID
	matching *matches     // the selectors of sets that match it; set by the index only
	atList   uint32       // its position in profiles.entities
}

func newEntities(prints prints) entities {
	t := entities{
		prints:       prints,
		ids:          map[fingerprint]entityID{},
		names:        newLabelNames(),
		profiles:     profiles{},
		profileLists: map[string]*profileList{},
		holders:      newHolders(),
		members:      newMembers(),
	}
	return t
}

// find returns the ID of the entity whose object has a key.
func (t *entities) find(key api.Key) (entityID, bool) {
	id, there := t.ids[printOf(t.prints, key)]
	return id, there
}

// labelsOf returns the labels of an entity, with those that it inherits.
func (t *entities) labelsOf(id entityID) labels {
	k := &t.list[id]
	l := labels{names: t.names, own: k.labels()}
	if k.profiles != nil {
		l.inherited = k.profiles.profiles
	}
	return l
}

// indexed gives an index access to all entities.
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

// updateEntities reads the endpoints and network sets that changed.
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

// updateEntity reads one entity, and moves it between sets and groups if it changed.
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
		g.hold(id, u, before)
		g.relabel(id, old, before)
	case known:
		g.hold(id, api.Update{Key: u.Key}, g.entities.list[id].contribution())
		g.removeEntity(id, print)
	}
}

// allocate gives a new entity an ID.
func (t *entities) allocate(print fingerprint) entityID {
	var id entityID
	if n := len(t.free); n > 0 {
		id, t.free = t.free[n-1], t.free[:n-1]
	} else {
		id = entityID(len(t.list))
		if n := len(t.list); n == cap(t.list) { // the largest slice of all: grow it by an eighth, where append would add a quarter
			t.list = append(make([]keptEntity, 0, n+n/8+64), t.list...)
		}
		t.list = append(t.list, keptEntity{})
	}
	t.ids[print] = id
	return id
}

// relabel moves an entity between sets, and finds the policies that now select it. old are its labels, and before is its contribution, until
// the change.
func (g *Graph) relabel(id entityID, old labels, before contribution) {
	started, stopped := g.entities.index.set(id, old)
	g.entities.move(id, before, started, stopped)
	if e := g.local.byEntity[id]; e != nil {
		g.reselect(e, old)
	}
}

// removeEntity takes an entity out of all sets, and its endpoint out of the index of policies. Its ID may be given to another.
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

// move takes an entity out of the sets whose selectors no longer match it, and puts it into those whose selectors now do. In the sets where
// it stays it exchanges its contribution.
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

// use adds to the number of active policies that name a set. by may be negative. flushSets removes a set that nobody names.
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

// watch registers who: who.join is called at once for every entity that its selector already matches.
func (t *entities) watch(who watcher) *matcher {
	m := &matcher{owner: who}
	for _, entity := range t.index.add(m, who.selector()) {
		who.join(&t.members, t.list[entity].contribution())
	}
	return m
}

// portNode finds or makes the portNode of a port's name.
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

// numbersOf returns the ports that a name stands for, in order.
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

// usePort adds to the number of references of a port's name. by may be negative; flushSets removes a name without references.
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

// flushSets handles the pending sets and named ports: it removes those that no active policy uses, and returns how the other sets
// changed.
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

// Having returns the addresses in addrs that an endpoint of any node, or a network set, has as a single address. It visits every
// entity, so use it rarely.
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

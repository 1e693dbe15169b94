package calc

import (
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// profiles holds every profile that exists or that an entity refers to, by name.
type profiles map[string]*profile

// profile is a profile as Graph keeps it: its rules are packed until it is active, as with keptPolicy.
type profile struct {
	name   string
	there  bool                      // it is in the datastore; set by updateProfiles
	denies bool                      // it is there, but invalid; set by updateProfiles
	labels string                    // that its entities inherit, packed; set by relabelEntitiesOf
	rules  *[2]packedRules           // by direction; nil: it has none. Set by updateProfiles
	read   *policy                   // set by profiles.policy when it becomes active, reset by forget and updateProfiles
	own    *profileList              // the list of this profile alone; nil: no entity has it
	others map[*profileList]struct{} // the lists of this profile and others
}

// profileList is a list of profiles, and the entities that have it. profileListOf makes it, and dropProfileList removes it with its last
// entity.
type profileList struct {
	profiles []*profile
	entities []entityID
}

// exists reports whether a profile is in the datastore, or is the default that needs no object.
func (p profiles) exists(name string) bool {
	return name == defaultAllow || p[name] != nil && p[name].there
}

// policy is the rules of a profile. One that does not exist denies everything.
func (p profiles) policy(name string) *policy {
	if name == defaultAllow || !p.exists(name) {
		return missingProfile(name)
	}
	of := p[name]
	if of.read == nil {
		of.read = &policy{Policy: Policy{ID: PolicyID{Kind: api.KindProfile, Name: name}}, denies: of.denies}
		if of.denies {
			of.read.Ingress, of.read.Egress = denyAll(), denyAll()
		}
		if of.rules != nil {
			of.read.rules = *of.rules
		}
	}
	return of.read
}

// forget leaves a profile that is no longer active only packed.
func (p profiles) forget(name string) {
	if of := p[name]; of != nil {
		of.read = nil
	}
}

// find finds the profile of a name, or makes one that is not there.
func (p profiles) find(name string) *profile {
	if p[name] == nil {
		p[name] = &profile{name: name}
	}
	return p[name]
}

// tidy removes a profile that is not in the datastore and that no entity refers to.
func (p profiles) tidy(of *profile) {
	if !of.there && of.own == nil && len(of.others) == 0 {
		delete(p, of.name)
	}
}

// updateProfiles reads the profiles that changed, relabels the entities that have them, and makes those pending that are active.
func (g *Graph) updateProfiles(updates []api.Update) {
	for _, u := range updates {
		read := readProfile(u)
		g.problems.set(u.Key, "policy", read.problems...)
		p := g.entities.profiles.find(u.Key.Name)
		p.there, p.denies, p.rules, p.read = u.Object != nil || u.Invalid != "", read.denies, nil, nil
		if read.rules != ([2]packedRules{}) {
			p.rules = &read.rules
		}
		g.relabelEntitiesOf(p, g.entities.names.pack(read.labels))
		g.entities.profiles.tidy(p)
		g.active.markIfActive(PolicyID{Kind: api.KindProfile, Name: u.Key.Name})
	}
}

// relabelEntitiesOf replaces a profile's labels, and relabels the entities that inherit them.
func (g *Graph) relabelEntitiesOf(p *profile, now string) {
	t := &g.entities
	before := &profile{labels: p.labels}
	p.labels = now
	if sameLabels(labels{inherited: []*profile{before}}, labels{inherited: []*profile{p}}) {
		return
	}
	for f := range p.lists {
		old := slices.Clone(f.profiles)
		for i := range old {
			if old[i] == p {
				old[i] = before
			}
		}
		for _, id := range f.entities {
			g.relabel(id, labels{names: t.names, own: t.list[id].labels(), inherited: old}, t.list[id].contribution())
		}
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

// lists yields the lists with this profile.
func (p *profile) lists(yield func(*profileList) bool) {
	if p.own != nil && !yield(p.own) {
		return
	}
	for f := range p.others {
		if !yield(f) {
			return
		}
	}
}

// profileListOf finds or makes the list of some profiles.
func (t *entities) profileListOf(names []string) *profileList {
	if len(names) == 1 {
		p := t.profiles.find(names[0])
		if p.own == nil {
			p.own = &profileList{profiles: []*profile{p}}
		}
		return p.own
	}
	text := strings.Join(names, "\x00") // no profile's name contains a NUL
	f := t.profileLists[text]
	if f == nil {
		f = &profileList{}
		t.profileLists[text] = f
		for _, name := range names {
			f.profiles = append(f.profiles, t.profiles.find(name))
		}
		for _, p := range f.profiles {
			if p.others == nil {
				p.others = map[*profileList]struct{}{}
			}
			p.others[f] = struct{}{}
		}
	}
	return f
}

// dropProfileList removes a list that no entity has any more.
func (t *entities) dropProfileList(f *profileList) {
	if len(f.profiles) == 1 {
		f.profiles[0].own = nil
	} else {
		var names []string
		for _, p := range f.profiles {
			names = append(names, p.name)
			delete(p.others, f)
		}
		delete(t.profileLists, strings.Join(names, "\x00"))
	}
	for _, p := range f.profiles {
		t.profiles.tidy(p)
	}
}

// inherit gives an entity another list of profiles to inherit labels from; nil: the entity is gone.
func (t *entities) inherit(id entityID, to *profileList) {
	from, at := t.list[id].profiles, t.list[id].atList
	if from == to {
		return
	}
	t.list[id].profiles = to
	if to != nil {
		t.list[id].atList = uint32(len(to.entities))
		to.entities = append(to.entities, id)
	}
	if from == nil {
		return
	}
	last := len(from.entities) - 1
	moved := from.entities[last]
	from.entities[at], from.entities = moved, from.entities[:last]
	if moved != id {
		t.list[moved].atList = at
	}
	if len(from.entities) == 0 {
		t.dropProfileList(from)
	}
}

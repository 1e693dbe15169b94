package calc

import (
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// profiles are the profiles that there are, and those that things name, by name.
type profiles map[string]*profile

// profile is kept as small as a policy that nobody needs: see keptPolicy.
type profile struct {
	name   string
	there  bool                 // in the datastore
	denies bool                 // it is there, but it cannot be read
	labels string               // for its things, packed
	rules  *[2]packedRules      // nil: it has none
	read   *policy              // while it is needed
	own    *family              // of things with this profile alone; nil: there are none
	others map[*family]struct{} // of things with others beside it
}

// family is the things that have the same list of profiles.
type family struct {
	profiles []*profile
	children []thingID
}

func (p profiles) exists(name string) bool {
	return name == defaultAllow || p[name] != nil && p[name].there
}

// policy is the profile of a name, or what stands for it when it does not exist.
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

func (p profiles) forget(name string) {
	if of := p[name]; of != nil {
		of.read = nil
	}
}

// find finds or makes the profile of a name.
func (p profiles) find(name string) *profile {
	if p[name] == nil {
		p[name] = &profile{name: name}
	}
	return p[name]
}

// tidy forgets a profile that is not there and that nothing names.
func (p profiles) tidy(of *profile) {
	if !of.there && of.own == nil && len(of.others) == 0 {
		delete(p, of.name)
	}
}

func (g *Graph) updateProfiles(updates []api.Update) {
	for _, u := range updates {
		read := readProfile(u)
		g.problems.set(u.Key, "policy", read.problems...)
		p := g.things.profiles.find(u.Key.Name)
		p.there, p.denies, p.rules, p.read = u.Object != nil || u.Broken != "", read.denies, nil, nil
		if read.rules != ([2]packedRules{}) {
			p.rules = &read.rules
		}
		g.relabelChildren(p, g.things.names.pack(read.labels))
		g.things.profiles.tidy(p)
		g.active.touchInUse(PolicyID{Kind: api.KindProfile, Name: u.Key.Name})
	}
}

// relabelChildren gives a profile's labels to the things that have the profile.
func (g *Graph) relabelChildren(p *profile, now string) {
	t := &g.things
	before := &profile{labels: p.labels}
	p.labels = now
	if sameLabels(labels{inherited: []*profile{before}}, labels{inherited: []*profile{p}}) {
		return
	}
	for f := range p.families {
		old := slices.Clone(f.profiles)
		for i := range old {
			if old[i] == p {
				old[i] = before
			}
		}
		for _, id := range f.children {
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

// families are those with this profile.
func (p *profile) families(yield func(*family) bool) {
	if p.own != nil && !yield(p.own) {
		return
	}
	for f := range p.others {
		if !yield(f) {
			return
		}
	}
}

// familyOf finds or makes the family of some profiles.
func (t *things) familyOf(names []string) *family {
	if len(names) == 1 {
		p := t.profiles.find(names[0])
		if p.own == nil {
			p.own = &family{profiles: []*profile{p}}
		}
		return p.own
	}
	text := strings.Join(names, "\x00") // no name contains one
	f := t.families[text]
	if f == nil {
		f = &family{}
		t.families[text] = f
		for _, name := range names {
			f.profiles = append(f.profiles, t.profiles.find(name))
		}
		for _, p := range f.profiles {
			if p.others == nil {
				p.others = map[*family]struct{}{}
			}
			p.others[f] = struct{}{}
		}
	}
	return f
}

// disband forgets a family without children.
func (t *things) disband(f *family) {
	if len(f.profiles) == 1 {
		f.profiles[0].own = nil
	} else {
		var names []string
		for _, p := range f.profiles {
			names = append(names, p.name)
			delete(p.others, f)
		}
		delete(t.families, strings.Join(names, "\x00"))
	}
	for _, p := range f.profiles {
		t.profiles.tidy(p)
	}
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
	if len(from.children) == 0 {
		t.disband(from)
	}
}

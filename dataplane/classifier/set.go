package classifier

import (
	"net/netip"
	"slices"

	"github.com/margay-project/margay/calc"
)

// set is the members of one of calc's sets, or the nets that a rule lists. It has views as long as conditions ask about
// it: most of the time one, with one atom that all members are in. When a set changes together with masks it gets
// another view for new conditions; the former one keeps showing the former members until no mask has a rule about it.
type set struct {
	id      calc.SetID // empty for a list of nets
	list    string     // key of a list of nets; empty for a set
	members map[netip.Prefix]struct{}

	view   *view   // of the members now; nil: no condition asks about the set
	former []*view // of former members, by id

	main    *atom                  // of the members of all views; nil without a view
	parts   []*atom                // of the members of only some views, one for each combination
	partial map[netip.Prefix]*atom // members of only some views, and the part that each is in
}

// set returns the view of a set. A set that is unknown has no members.
func (a *addresses) set(id calc.SetID) *view { return a.viewOf(a.known(id)) }

// known returns a set, and makes an empty one if it is unknown.
func (a *addresses) known(id calc.SetID) *set {
	s := a.sets[id]
	if s == nil {
		s = &set{id: id, members: map[netip.Prefix]struct{}{}}
		a.sets[id] = s
	}
	return s
}

// list returns the view of a list of nets. Lists of the same nets have the same view.
func (a *addresses) list(nets []netip.Prefix) *view {
	cleaned := make([]netip.Prefix, 0, len(nets))
	for _, n := range nets {
		if p, ok := clean(n); ok {
			cleaned = append(cleaned, p)
		}
	}
	slices.SortFunc(cleaned, netip.Prefix.Compare)
	cleaned = slices.Compact(cleaned)
	a.scratch = a.scratch[:0]
	for _, p := range cleaned {
		a.scratch, _ = p.AppendBinary(a.scratch) // never an error
		a.scratch = append(a.scratch, 0xff)      // no prefix length
	}
	s, found := a.lists[string(a.scratch)]
	if !found {
		s = &set{list: string(a.scratch), members: make(map[netip.Prefix]struct{}, len(cleaned))}
		for _, p := range cleaned {
			s.members[p] = struct{}{}
		}
		a.lists[s.list] = s
	}
	return a.viewOf(s)
}

// viewOf returns the current view of a set. The first call adds all members to the tables.
func (a *addresses) viewOf(s *set) *view {
	if s.view == nil {
		s.view = a.newView()
		s.view.set = s
		s.main = s.view.atoms[0]
		a.queue = slices.Grow(a.queue, len(s.members))
		for p := range s.members {
			a.join(p, s.main)
		}
	}
	return s.view
}

// addView gives a set another view, which shows the same members until they change.
func (a *addresses) addView(s *set) {
	v := &view{id: a.newID(), set: s, atoms: slices.Clone(s.view.atoms)}
	for _, x := range v.atoms {
		x.views = append(x.views, v)
	}
	s.former = append(s.former, s.view)
	s.view = v
}

// changeMembers makes members join and leave. Former views keep showing the former members.
func (a *addresses) changeMembers(s *set, d calc.SetDelta) {
	if len(s.members) == 0 {
		s.members = make(map[netip.Prefix]struct{}, len(d.Added))
	}
	for _, m := range d.Removed {
		if p, ok := s.leaves(m); ok {
			from := s.atomOf(p)
			delete(s.members, p)
			a.move(s, p, from, a.partFor(s, from, false))
		}
	}
	for _, m := range d.Added {
		if p, ok := s.joins(m); ok {
			from := s.atomOf(p)
			s.members[p] = struct{}{}
			a.move(s, p, from, a.partFor(s, from, true))
		}
	}
}

// leaves returns the prefix that leaves the set; false if it is no member.
func (s *set) leaves(m netip.Prefix) (netip.Prefix, bool) {
	p, ok := clean(m)
	_, in := s.members[p]
	return p, ok && in
}

// joins returns the prefix that joins the set; false if it is a member already, or contains no packet's address.
func (s *set) joins(m netip.Prefix) (netip.Prefix, bool) {
	p, ok := clean(m)
	_, in := s.members[p]
	return p, ok && !in
}

// atomOf returns the atom of the set that a prefix is in; nil: none.
func (s *set) atomOf(p netip.Prefix) *atom {
	if x := s.partial[p]; x != nil {
		return x
	}
	if _, in := s.members[p]; in {
		return s.main
	}
	return nil
}

// partFor returns the atom for a prefix that now joins the set (member) or leaves it; nil: it is in no view any more. from
// is its atom until now, or nil.
func (a *addresses) partFor(s *set, from *atom, member bool) *atom {
	if len(s.former) == 0 { // main is nil while there is no view
		if member {
			return s.main
		}
		return nil
	}
	var views []*view
	if from != nil {
		views = slices.DeleteFunc(slices.Clone(from.views), func(v *view) bool { return v == s.view })
	}
	if member {
		views = append(views, s.view) // its id is the highest
	}
	return a.part(s, views)
}

// part returns the atom for members of some views only; nil for no view.
func (a *addresses) part(s *set, views []*view) *atom {
	switch {
	case len(views) == 0:
		return nil
	case slices.Equal(views, s.main.views):
		return s.main
	}
	for _, x := range s.parts {
		if slices.Equal(views, x.views) {
			return x
		}
	}
	x := &atom{id: a.newID(), views: views}
	for _, v := range views {
		v.atoms = append(v.atoms, x)
	}
	s.parts = append(s.parts, x)
	return x
}

// move moves a prefix from one atom of a set to another; nil is none.
func (a *addresses) move(s *set, p netip.Prefix, from, to *atom) {
	if from == to {
		return
	}
	if from != nil {
		a.leave(p, from)
	}
	if to != nil {
		a.join(p, to)
	}
	delete(s.partial, p)
	if to != nil && to != s.main {
		if s.partial == nil {
			s.partial = map[netip.Prefix]*atom{}
		}
		s.partial[p] = to
	}
}

// retire removes a view that no condition asks about any more. When the last view goes, the members leave the tables.
func (a *addresses) retire(v *view) {
	s := v.set
	named := func(v *view) bool { return len(v.conds) > 0 }
	switch at := slices.Index(s.former, v); {
	case s.view == nil:
	case !named(s.view) && !slices.ContainsFunc(s.former, named):
		a.retireSet(s)
	case at >= 0:
		s.former = slices.Delete(s.former, at, at+1)
		for _, x := range v.atoms {
			x.views = slices.DeleteFunc(x.views, func(w *view) bool { return w == v })
		}
		a.mergeParts(s)
	}
}

// retireSet removes all views of a set, and the set itself if nothing else knows it.
func (a *addresses) retireSet(s *set) {
	for p := range s.members {
		if _, partial := s.partial[p]; !partial {
			a.leave(p, s.main)
		}
	}
	for p, x := range s.partial {
		a.leave(p, x)
	}
	s.view, s.former, s.main, s.parts, s.partial = nil, nil, nil, nil, nil
	if a.lists[s.list] == s {
		delete(a.lists, s.list)
	}
	if a.sets[s.id] == s && len(s.members) == 0 {
		delete(a.sets, s.id)
	}
}

// mergeParts moves members out of parts that are now in the same views as another atom, or in none, and retires these
// parts. This changes no verdict.
func (a *addresses) mergeParts(s *set) {
	parts := s.parts
	s.parts = nil
	var merged []*atom
	for _, x := range parts {
		same := func(y *atom) bool { return slices.Equal(x.views, y.views) }
		if len(x.views) == 0 || same(s.main) || slices.ContainsFunc(s.parts, same) {
			merged = append(merged, x)
		} else {
			s.parts = append(s.parts, x)
		}
	}
	for p, x := range s.partial {
		if slices.Contains(merged, x) {
			a.move(s, p, x, a.part(s, x.views))
		}
	}
	for _, x := range merged {
		x.retired = true
		x.dropIfUnused()
	}
}

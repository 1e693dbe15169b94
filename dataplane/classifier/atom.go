package classifier

import (
	"cmp"
	"slices"
)

// atom is the smallest unit of membership: the members of a set that are in the same views of the set, the nets that a
// rule lists, or the points of a rule's protocols and ports.
type atom struct {
	id      uint32   // unique in its classes
	views   []*view  // that contain it, by id
	classes []*class // that contain it, in no order
	retired bool     // no address may join it any more; it leaves its views once no class has it
}

// view is the set, list of nets, or points that a condition asks about: the union of its atoms. Most views are one
// atom. A set that changed together with masks has several views for a while: old conditions see the old members, new
// conditions the new ones, and an address that is in only some of the views is in a separate atom.
type view struct {
	id    uint32 // unique in its classes, ascending with time
	atoms []*atom
	conds []*condition // that have it in in or out

	// One of these is set.
	set  *set      // for addresses
	line intervals // for services and source ports
}

// newView returns a view of one new atom.
func (cs *classes) newView() *view {
	one := &struct { // there is one for each list of nets, so it should be one piece of memory
		view  view
		atom  atom
		atoms [1]*atom
		views [1]*view
	}{}
	one.atoms[0], one.views[0] = &one.atom, &one.view
	one.atom.id, one.view.id = cs.newID(), cs.newID()
	one.view.atoms, one.atom.views = one.atoms[:], one.views[:]
	return &one.view
}

// newID returns a number for a view or an atom. It is never 0.
func (cs *classes) newID() uint32 {
	cs.nextID++
	return cs.nextID
}

// dropIfUnused removes a retired atom from its views, unless a class still has it: conditions reach classes through the
// atoms of their views.
func (a *atom) dropIfUnused() {
	if !a.retired || len(a.classes) > 0 {
		return
	}
	for _, v := range a.views {
		v.atoms = slices.DeleteFunc(v.atoms, func(x *atom) bool { return x == a })
	}
	a.views = nil
}

// classes counts the classes of a view's atoms.
func (v *view) classes() (n int) {
	for _, a := range v.atoms {
		n += len(a.classes)
	}
	return n
}

// union appends the union of two lists of atoms to the buffer. All are ordered by id.
func union(buffer, a, b []*atom) []*atom {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].id < b[0].id:
			buffer, a = append(buffer, a[0]), a[1:]
		case a[0].id > b[0].id:
			buffer, b = append(buffer, b[0]), b[1:]
		default:
			buffer, a, b = append(buffer, a[0]), a[1:], b[1:]
		}
	}
	return append(append(buffer, a...), b...)
}

// without removes an atom from a list that is ordered by id, in place.
func without(atoms []*atom, x *atom) []*atom {
	if i, found := slices.BinarySearchFunc(atoms, x, byID); found {
		return slices.Delete(atoms, i, i+1)
	}
	return atoms
}

func byID(x, y *atom) int { return cmp.Compare(x.id, y.id) }

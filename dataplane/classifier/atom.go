package classifier

import (
	"cmp"
	"slices"
)

// atom is the smallest thing that one point of a dimension can be in: the members of a set that came together, a rule's
// list of nets, or the points of a rule's protocols and ports.
type atom struct {
	id      uint32
	views   []*view  // that have it, by id
	classes []*class // that contain it
	retired bool     // it goes with the last of its classes
}

// view is what a condition asks about: a set, a list or some points. It is one atom, but for a set that changed together
// with masks: then old conditions and new ones see the members of their time, and what is in one of two views only is
// an atom of its own. Whatever is in one of the atoms is in the view.
type view struct {
	id    uint32
	atoms []*atom
	conds []*condition // that have it among their in or out

	// It shows one of these.
	set  *set
	line intervals
}

// newView returns a view of a new atom.
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

func (cs *classes) newID() uint32 {
	cs.nextID++
	return cs.nextID
}

// dropIfUnused takes an atom that is spent out of its views. While some class has it, its views have to know.
func (a *atom) dropIfUnused() {
	if !a.retired || len(a.classes) > 0 {
		return
	}
	for _, v := range a.views {
		v.atoms = slices.DeleteFunc(v.atoms, func(x *atom) bool { return x == a })
	}
	a.views = nil
}

func (v *view) classes() (n int) {
	for _, a := range v.atoms {
		n += len(a.classes)
	}
	return n
}

// union merges two ordered lists of atoms into the buffer.
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

// without removes an atom from an ordered list, in place.
func without(atoms []*atom, x *atom) []*atom {
	if i, found := slices.BinarySearchFunc(atoms, x, byID); found {
		return slices.Delete(atoms, i, i+1)
	}
	return atoms
}

func byID(x, y *atom) int { return cmp.Compare(x.id, y.id) }

package classifier

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// atom is the smallest thing that one point of a dimension can be in: the members of a set that came together, a rule's
// list of nets, or the points of a rule's protocols and ports.
type atom struct {
	id      uint32
	views   []*view  // that have it, by id
	classes []*class // that contain it
	spent   bool     // it goes with the last of its classes
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

// condition is what one dimension of a rule asks for: to be in all of in and in none of out. Rules share them.
type condition struct {
	key     string
	in, out []*view
	rules   int        // that have it, the retired ones included
	slots   [2]slotSet // of those rules, by side
	todo    [2]slotSet // those of slots that the classes do not have yet
}

// class is a set of atoms that some points have in common, and the vectors that say so.
type class struct {
	key     string
	atoms   []*atom   // by id
	at      []int32   // place in the classes of each atom
	vectors [2]uint32 // by side
	refs    int
	idle    uint64 // the epoch in which refs became 0
	shown   bool   // some point has had it
}

// classes are those of one dimension, or of two that share their points: source and destination are the two sides
// of one table of addresses.
type classes struct {
	vectors *vectors
	sides   int
	byKey   map[string]*class
	conds   map[string]*condition
	todo    []*condition // with todo
	idle    []*class     // with no refs, or again with some
	nextID  uint32
	size    int // atoms of all classes
	scratch []byte
	empty   *class // vector 0 for what is in no atom
}

// maxClassAtoms bounds the memory of a dimension's classes (16 bytes for each atom in each class): thousands of nets or
// port ranges that overlap each other make as many classes of as many atoms.
const maxClassAtoms = 1 << 23

func newClasses(vs *vectors, sides int) classes {
	return classes{
		vectors: vs,
		sides:   sides,
		byKey:   map[string]*class{},
		conds:   map[string]*condition{},
		empty:   &class{refs: 1},
	}
}

func (cs *classes) newID() uint32 {
	cs.nextID++
	return cs.nextID
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

// classKey is valid until the next call, also of conditionKey.
func (cs *classes) classKey(atoms []*atom) []byte {
	cs.scratch = cs.scratch[:0]
	for _, a := range atoms {
		cs.scratch = binary.LittleEndian.AppendUint32(cs.scratch, a.id)
	}
	return cs.scratch
}

func (cs *classes) conditionKey(in, out []*view) []byte {
	cs.scratch = cs.scratch[:0]
	for _, v := range in {
		cs.scratch = binary.LittleEndian.AppendUint32(cs.scratch, v.id)
	}
	cs.scratch = append(cs.scratch, 0, 0, 0, 0) // no view has id 0
	for _, v := range out {
		cs.scratch = binary.LittleEndian.AppendUint32(cs.scratch, v.id)
	}
	return cs.scratch
}

// get returns the class of some atoms with one more reference. It keeps no hold of the slice.
func (cs *classes) get(atoms []*atom) (*class, error) {
	if len(atoms) == 0 {
		cs.empty.refs++
		return cs.empty, nil
	}
	key := cs.classKey(atoms)
	if c, found := cs.byKey[string(key)]; found {
		c.refs++
		return c, nil
	}
	if cs.size+len(atoms) > maxClassAtoms {
		return nil, &ErrFull{What: "classes", Size: maxClassAtoms}
	}
	c := &class{key: string(key), atoms: slices.Clone(atoms), refs: 1}
	for side := range cs.sides {
		v, err := cs.vectors.take()
		if err == nil {
			c.vectors[side] = v
			err = cs.fill(c, side)
		}
		if err != nil {
			cs.drop(c) // nobody has seen it
			return nil, err
		}
	}
	cs.byKey[c.key] = c
	cs.size += len(atoms)
	c.at = make([]int32, len(atoms))
	for i, a := range c.atoms {
		c.at[i] = int32(len(a.classes))
		a.classes = append(a.classes, c)
	}
	return c, nil
}

// fill gives a new class the slots of every condition that it meets or violates.
func (cs *classes) fill(c *class, side int) error {
	for _, a := range c.atoms {
		for _, v := range a.views {
			if err := cs.fillView(c, v, side); err != nil {
				return err
			}
		}
	}
	return nil
}

func (cs *classes) fillView(c *class, v *view, side int) error {
	for _, cond := range v.conds {
		var err error
		switch {
		case len(cond.slots[side]) == 0:
		case slices.Contains(cond.out, v):
			err = cs.vectors.or(c.vectors[side], veto, cond.slots[side])
		case cond.in[0] == v && c.isInAll(cond.in):
			err = cs.vectors.or(c.vectors[side], pos, cond.slots[side])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *class) index(a *atom) (int, bool) {
	return slices.BinarySearchFunc(c.atoms, a, byID)
}

// isInAll says whether the class has an atom of each view.
func (c *class) isInAll(views []*view) bool {
	return !slices.ContainsFunc(views, func(v *view) bool { return !c.isIn(v) })
}

func (c *class) isIn(v *view) bool {
	return slices.ContainsFunc(v.atoms, func(a *atom) bool { _, found := c.index(a); return found })
}

// release takes back one reference. The class stays whole until no running program can still hold it.
func (cs *classes) release(c *class, epoch uint64) {
	if c == nil {
		return
	}
	c.refs--
	if c.refs == 0 {
		c.idle = epoch
		cs.idle = append(cs.idle, c)
	}
}

// abandon takes back a reference of a change that failed. A class that was made for it is freed at once, so that a
// smaller change finds room.
func (cs *classes) abandon(c *class, epoch uint64) {
	if c.refs == 1 && !c.shown && c != cs.empty {
		cs.forget(c)
		c.refs = 0
		return
	}
	cs.release(c, epoch)
}

// reuse frees the classes that nothing has referred to since an epoch.
func (cs *classes) reuse(epoch uint64) {
	cs.idle = slices.DeleteFunc(cs.idle, func(c *class) bool {
		switch {
		case c.refs > 0 || c.at == nil: // in use again, or freed already
			return true
		case c.idle > epoch:
			return false
		}
		cs.forget(c)
		return true
	})
}

func (cs *classes) forget(c *class) {
	delete(cs.byKey, c.key)
	cs.size -= len(c.atoms)
	for i, a := range c.atoms {
		last := a.classes[len(a.classes)-1]
		a.classes[c.at[i]] = last
		j, _ := last.index(a)
		last.at[j] = c.at[i]
		a.classes[len(a.classes)-1] = nil // or classes and atoms that are gone keep each other, in a chain without end
		a.classes = a.classes[:len(a.classes)-1]
		a.vanish()
	}
	c.at = nil
	cs.drop(c)
}

// vanish takes an atom that is spent out of its views. While some class has it, its views have to know.
func (a *atom) vanish() {
	if !a.spent || len(a.classes) > 0 {
		return
	}
	for _, v := range a.views {
		v.atoms = slices.DeleteFunc(v.atoms, func(x *atom) bool { return x == a })
	}
	a.views = nil
}

func (cs *classes) drop(c *class) {
	for side := range cs.sides {
		if c.vectors[side] != 0 {
			cs.vectors.free(c.vectors[side])
		}
	}
}

// condition returns the condition for some views, with one more rule that has it.
func (cs *classes) condition(in, out []*view) *condition {
	key := cs.conditionKey(in, out)
	c, found := cs.conds[string(key)]
	if !found {
		c = &condition{key: string(key), in: in, out: out}
		cs.conds[c.key] = c
		for _, v := range slices.Concat(in, out) {
			v.conds = append(v.conds, c)
		}
	}
	c.rules++
	return c
}

// releaseCondition takes back a rule. It returns the views that no condition needs any more.
func (cs *classes) releaseCondition(c *condition) (unused []*view) {
	c.rules--
	if c.rules > 0 {
		return nil
	}
	delete(cs.conds, c.key)
	for _, v := range slices.Concat(c.in, c.out) {
		v.conds = slices.DeleteFunc(v.conds, func(x *condition) bool { return x == c })
		if len(v.conds) == 0 {
			unused = append(unused, v)
		}
	}
	return unused
}

// addSlot notes a new slot of a condition; flush brings it into the classes that are there already.
func (cs *classes) addSlot(c *condition, side int, slot uint32) {
	if len(c.todo[0])+len(c.todo[1]) == 0 {
		cs.todo = append(cs.todo, c)
	}
	c.slots[side].add(slot)
	c.todo[side].add(slot)
}

// flush brings the new slots into the classes. Slots that it could not bring in stay for the next time.
func (cs *classes) flush() (failed []*condition, err error) {
	for _, c := range cs.todo {
		if e := cs.push(c); e != nil {
			err = cmp.Or(err, e)
			failed = append(failed, c)
		}
	}
	cs.todo = failed
	return failed, err
}

func (cs *classes) push(c *condition) error {
	for side := range cs.sides {
		todo := c.todo[side]
		if len(todo) == 0 {
			continue
		}
		err := cs.affected(c, func(k *class, h half) error { return cs.vectors.or(k.vectors[side], h, todo) })
		if err != nil {
			return err
		}
		c.todo[side] = nil
	}
	return nil
}

// affected calls f for the classes that meet a condition, and for those that violate it, perhaps more than once.
func (cs *classes) affected(c *condition, f func(*class, half) error) error {
	if len(c.in) > 0 {
		rarest := slices.MinFunc(c.in, func(a, b *view) int { return a.classes() - b.classes() })
		for _, a := range rarest.atoms {
			for _, k := range a.classes {
				if !k.isInAll(c.in) {
					continue
				}
				if err := f(k, pos); err != nil {
					return err
				}
			}
		}
	}
	for _, v := range c.out {
		for _, a := range v.atoms {
			for _, k := range a.classes {
				if err := f(k, veto); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (v *view) classes() (n int) {
	for _, a := range v.atoms {
		n += len(a.classes)
	}
	return n
}

// removeSlots takes slots that no mask has out of a condition and the classes.
func (cs *classes) removeSlots(c *condition, side int, gone slotSet, epoch uint64) {
	c.slots[side].remove(gone)
	c.todo[side].remove(gone)
	_ = cs.affected(c, func(k *class, h half) error { // f returns nil
		cs.vectors.andNot(k.vectors[side], h, gone, epoch)
		return nil
	})
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

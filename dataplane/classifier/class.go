package classifier

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/margay-project/margay/bpf/layout"
)

// class is a set of atoms that some points have in common, and the vectors that say so.
type class struct {
	key       string
	atoms     []*atom   // by id
	atomIndex []int32   // place in the classes of each atom
	vectors   [2]uint32 // by side
	refs      int
	idle      uint64 // the round in which refs became 0
	published bool   // some point has had it
}

// classes are those of one dimension, or of two that share their points: source and destination are the two sides
// of one table of addresses.
type classes struct {
	vectors      *vectors
	sides        int
	byKey        map[string]*class
	conds        map[string]*condition
	withNewSlots []*condition // with todo
	idle         []*class     // with no refs, or again with some
	nextID       uint32
	size         int // atoms of all classes
	scratch      []byte
	empty        *class // vector 0 for what is in no atom
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

// classKey is valid until the next call, also of conditionKey.
func (cs *classes) classKey(atoms []*atom) []byte {
	cs.scratch = cs.scratch[:0]
	for _, a := range atoms {
		cs.scratch = binary.LittleEndian.AppendUint32(cs.scratch, a.id)
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
		v, err := cs.vectors.allocate()
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
	c.atomIndex = make([]int32, len(atoms))
	for i, a := range c.atoms {
		c.atomIndex[i] = int32(len(a.classes))
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
func (cs *classes) release(c *class, round uint64) {
	if c == nil {
		return
	}
	c.refs--
	if c.refs == 0 {
		c.idle = round
		cs.idle = append(cs.idle, c)
	}
}

// abandon takes back a reference of a change that failed. A class that was made for it is freed at once, so that a
// smaller change finds room.
func (cs *classes) abandon(c *class, round uint64) {
	if c.refs == 1 && !c.published && c != cs.empty {
		cs.forget(c)
		c.refs = 0
		return
	}
	cs.release(c, round)
}

// reuse frees the classes that nothing has referred to since an round.
func (cs *classes) reuse(round uint64) {
	cs.idle = slices.DeleteFunc(cs.idle, func(c *class) bool {
		switch {
		case c.refs > 0 || c.atomIndex == nil: // in use again, or freed already
			return true
		case c.idle > round:
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
		a.classes[c.atomIndex[i]] = last
		j, _ := last.index(a)
		last.atomIndex[j] = c.atomIndex[i]
		a.classes[len(a.classes)-1] = nil // or classes and atoms that are gone keep each other, in a chain without end
		a.classes = a.classes[:len(a.classes)-1]
		a.dropIfUnused()
	}
	c.atomIndex = nil
	cs.drop(c)
}

func (cs *classes) drop(c *class) {
	for side := range cs.sides {
		if c.vectors[side] != 0 {
			cs.vectors.free(c.vectors[side])
		}
	}
}

// addSlot notes a new slot of a condition; flush brings it into the classes that are there already.
func (cs *classes) addSlot(c *condition, side int, slot uint32) {
	if len(c.newSlots[0])+len(c.newSlots[1]) == 0 {
		cs.withNewSlots = append(cs.withNewSlots, c)
	}
	c.slots[side].add(slot)
	c.newSlots[side].add(slot)
}

// addNewSlots brings the new slots into the classes. Slots that it could not bring in stay for the next time.
func (cs *classes) addNewSlots() (failed []*condition, err error) {
	for _, c := range cs.withNewSlots {
		if e := cs.addNewSlotsOf(c); e != nil {
			err = cmp.Or(err, e)
			failed = append(failed, c)
		}
	}
	cs.withNewSlots = failed
	return failed, err
}

func (cs *classes) addNewSlotsOf(c *condition) error {
	for side := range cs.sides {
		todo := c.newSlots[side]
		if len(todo) == 0 {
			continue
		}
		err := cs.affected(c, func(k *class, h half) error { return cs.vectors.or(k.vectors[side], h, todo) })
		if err != nil {
			return err
		}
		c.newSlots[side] = nil
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

// removeSlots takes slots that no mask has out of a condition and the classes.
func (cs *classes) removeSlots(c *condition, side int, gone slotSet, round uint64) {
	c.slots[side].remove(gone)
	c.newSlots[side].remove(gone)
	_ = cs.affected(c, func(k *class, h half) error { // f returns nil
		cs.vectors.andNot(k.vectors[side], h, gone, round)
		return nil
	})
}

// side is a dimension's classes and which of their vectors it is.
type side struct {
	classes *classes
	at      int
}

func (c *Classifier) side(dim int) side {
	switch dim {
	case layout.DimSource:
		return side{&c.addresses.classes, 0}
	case layout.DimDest:
		return side{&c.addresses.classes, 1}
	case layout.DimService:
		return side{&c.services.classes, 0}
	}
	return side{&c.sourcePorts.classes, 0}
}

func (c *Classifier) dimensions() []*classes {
	return []*classes{&c.addresses.classes, &c.services.classes, &c.sourcePorts.classes}
}

package classifier

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/margay-project/margay/bpf/layout"
)

// class is the atoms of an address or point, all of them. Addresses or points with the same atoms share the class and its
// vectors: the pos and veto bits of the rules. Its atoms never change.
type class struct {
	key       string
	atoms     []*atom   // ordered by id
	atomIndex []int32   // index of the class in the classes of each atom; nil once the class is freed
	vectors   [2]uint32 // by side; 0: none
	refs      int       // how many entries (as class or as written) and segments refer to it
	idle      uint64    // round in which refs became 0
	published bool      // the tables have pointed to it, so a running program may hold it
}

// classes are the classes and conditions of one dimension. Source and destination share their addresses, and so their
// classes: they are the two sides, 0 and 1, of one such table.
type classes struct {
	vectors      *vectors
	sides        int // 1 or 2
	byKey        map[string]*class
	conds        map[string]*condition // by condition.key
	withNewSlots []*condition          // for the next addNewSlots
	idle         []*class              // refs became 0; some may be in use again
	nextID       uint32
	size         int    // atoms of all classes, at most maxClassAtoms
	scratch      []byte // of classKey and conditionKey
	empty        *class // of addresses and points without atoms: vector 0. It is never freed
}

// maxClassAtoms bounds the memory of a dimension's classes: an atom in a class takes 16 bytes. Thousands of nets or
// port ranges that overlap each other would make as many classes of as many atoms.
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

// classKey returns a key that is valid until the next call of classKey or conditionKey.
func (cs *classes) classKey(atoms []*atom) []byte {
	cs.scratch = cs.scratch[:0]
	for _, a := range atoms {
		cs.scratch = binary.LittleEndian.AppendUint32(cs.scratch, a.id)
	}
	return cs.scratch
}

// get returns the class of some atoms, ordered by id, with one more reference. A new class is filled before get
// returns. It does not keep the slice.
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
			cs.drop(c) // no entry or segment has it yet
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

// fillView adds the slots of the conditions about one view of the class. A condition that asks for several views is
// added only when its first view is visited.
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

// index returns where an atom is in the class.
func (c *class) index(a *atom) (int, bool) {
	return slices.BinarySearchFunc(c.atoms, a, byID)
}

// isInAll says whether the class has an atom of each view.
func (c *class) isInAll(views []*view) bool {
	return !slices.ContainsFunc(views, func(v *view) bool { return !c.isIn(v) })
}

// isIn says whether the class has an atom of a view.
func (c *class) isIn(v *view) bool {
	return slices.ContainsFunc(v.atoms, func(a *atom) bool { _, found := c.index(a); return found })
}

// release gives back a reference; nil has none. The class and its vectors stay as they are until reuse.
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

// abandon gives back a reference of a change that failed. A class that was made for that change is freed at once, so
// that a smaller change finds room.
func (cs *classes) abandon(c *class, round uint64) {
	if c.refs == 1 && !c.published && c != cs.empty {
		cs.forget(c)
		c.refs = 0
		return
	}
	cs.release(c, round)
}

// reuse frees the classes that lost their last reference in a round up to the given one.
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

// forget frees a class: in its atoms, and its vectors.
func (cs *classes) forget(c *class) {
	delete(cs.byKey, c.key)
	cs.size -= len(c.atoms)
	for i, a := range c.atoms {
		last := a.classes[len(a.classes)-1]
		a.classes[c.atomIndex[i]] = last
		j, _ := last.index(a)
		last.atomIndex[j] = c.atomIndex[i]
		a.classes[len(a.classes)-1] = nil // else the garbage collector could not free the removed class
		a.classes = a.classes[:len(a.classes)-1]
		a.dropIfUnused()
	}
	c.atomIndex = nil
	cs.drop(c)
}

// drop frees the vectors of a class.
func (cs *classes) drop(c *class) {
	for side := range cs.sides {
		if c.vectors[side] != 0 {
			cs.vectors.free(c.vectors[side])
		}
	}
}

// addSlot gives a condition a new slot. Classes get it from addNewSlots or, if they are made later, from fill.
func (cs *classes) addSlot(c *condition, side int, slot uint32) {
	if len(c.newSlots[0])+len(c.newSlots[1]) == 0 {
		cs.withNewSlots = append(cs.withNewSlots, c)
	}
	c.slots[side].add(slot)
	c.newSlots[side].add(slot)
}

// addNewSlots writes new slots to the classes that are there. Conditions for which that failed are returned, and are
// tried again by the next call.
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

// addNewSlotsOf writes the new slots of one condition. After an error all of them are written again, which does no
// harm.
func (cs *classes) addNewSlotsOf(c *condition) error {
	for side := range cs.sides {
		todo := c.newSlots[side]
		if len(todo) == 0 {
			continue
		}
		err := cs.eachClass(c, func(k *class, h half) error { return cs.vectors.or(k.vectors[side], h, todo) })
		if err != nil {
			return err
		}
		c.newSlots[side] = nil
	}
	return nil
}

// eachClass calls f with pos for each class that meets a condition, and with veto for each class that violates it;
// perhaps several times for one class. It ends with the first error.
func (cs *classes) eachClass(c *condition, f func(*class, half) error) error {
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

// removeSlots takes slots that no mask has out of a condition and its classes.
func (cs *classes) removeSlots(c *condition, side int, gone slotSet, round uint64) {
	c.slots[side].remove(gone)
	c.newSlots[side].remove(gone)
	_ = cs.eachClass(c, func(k *class, h half) error { // f returns nil
		cs.vectors.andNot(k.vectors[side], h, gone, round)
		return nil
	})
}

// side is a table of classes and the side of it that a dimension uses.
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

// dimensions returns each table of classes once.
func (c *Classifier) dimensions() []*classes {
	return []*classes{&c.addresses.classes, &c.services.classes, &c.sourcePorts.classes}
}

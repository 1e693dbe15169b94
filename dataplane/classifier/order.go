package classifier

import (
	"slices"

	"github.com/margay-project/margay/bpf/layout"
)

const (
	failsafes group = iota
	tiers
	profiles
)

// order gives every rule its slot. Slots stand in the order of evaluation, with gaps, and a rule keeps its slot for as
// long as it lives; what would have to move is copied, and the old slot stays until no mask has it.
type order struct {
	lists    []*list
	occupied []uint64 // slots, of rules alive or not
	total    uint32   // the first and the last slot are never used, so that there is always a next one
	items    int
	pending  map[*list]struct{} // since the last settle: their slots are to be set
	retired  []retired
	round    *uint64
	onCopy   func(*item) // called with the copy that stays behind
}

type retired struct {
	round uint64
	item  *item
}

func newOrder(blocks int, round *uint64) order {
	o := order{
		total:    uint32(blocks * layout.BlockSlots),
		occupied: make([]uint64, blocks*layout.BlockWords),
		pending:  map[*list]struct{}{},
		round:    round,
	}
	o.occupy(0)
	o.occupy(o.total - 1)
	return o
}

func (o *order) occupy(slot uint32) { o.occupied[slot/64] |= 1 << (slot % 64) }
func (o *order) vacate(slot uint32) { o.occupied[slot/64] &^= 1 << (slot % 64) }

// insert adds a list at its place. Its items need slots.
func (o *order) insert(l *list) {
	o.lists = slices.Insert(o.lists, o.find(l), l)
	o.pending[l] = struct{}{}
}

// find is where a list stands, or belongs.
func (o *order) find(l *list) int {
	at, _ := slices.BinarySearchFunc(o.lists, l, func(x, y *list) int { return x.position.compare(y.position) })
	return at
}

func (o *order) unlink(l *list) {
	at := o.find(l)
	if at == len(o.lists) || o.lists[at] != l { // two lists at the same place
		at = slices.Index(o.lists, l)
	}
	o.lists = slices.Delete(o.lists, at, at+1)
}

// remove takes a list out; its items are retired.
func (o *order) remove(l *list) {
	o.unlink(l)
	delete(o.pending, l)
	for _, it := range l.items {
		o.retire(it)
	}
	l.items = nil
}

// move gives a list another place, and so other slots.
func (o *order) move(l *list, to position) {
	if l.position == to {
		return
	}
	o.unlink(l)
	for _, it := range l.items {
		o.evict(it)
	}
	l.position = to
	o.insert(l)
}

// retire gives up an item. Its slot stays taken until no mask has it.
func (o *order) retire(it *item) {
	if it.slot != 0 && !it.filled { // nobody has seen it
		o.vacate(it.slot)
		it.slot = 0
	}
	o.retired = append(o.retired, retired{*o.round, it})
}

// evict makes an item need another slot; a copy of it keeps the one that it has.
func (o *order) evict(it *item) {
	switch {
	case it.slot == 0:
		return
	case it.filled:
		old := *it
		o.onCopy(&old)
		o.retire(&old)
	default:
		o.vacate(it.slot)
	}
	it.slot, it.filled = 0, false
	o.pending[it.list] = struct{}{}
}

// assignSlots gives slots to all items that need one. With an error some lists are not whole.
func (o *order) assignSlots() error {
	if len(o.pending) == 0 {
		return nil
	}
	const tries = 8 // a Pass that moves rarely makes another move
	var f errorList
	for try := range tries {
		for !o.fillGaps(&f) {
		}
		if !o.redirect() {
			break
		}
		if try+1 == tries {
			f.add(&ErrFull{What: "slots", Size: int(o.total)})
		}
	}
	for l := range o.pending {
		l.noRoom = false
		l.slots, l.complete = nil, true
		for _, it := range l.items {
			if it.slot == 0 {
				l.complete = false
				break
			}
			l.slots.add(it.slot)
		}
	}
	return f.err("lists of rules")
}

// redirect sends each Pass behind the end of its tier: in the middle of the gap before what follows, so that both may
// grow. It reports whether a Pass that stands already has to be copied because its tier has outgrown it.
func (o *order) redirect() (moved bool) {
	following := o.total - 1
	for end := len(o.lists); end > 0; {
		first := end - 1
		for first > 0 && o.lists[first-1].position.sameTier(o.lists[end-1].position) {
			first--
		}
		tier := o.lists[first:end]
		low, high := bounds(tier)
		if tier[0].position.group == failsafes { // nothing is to follow
			high, following = o.total-2, o.total-1
		}
		for _, l := range tier {
			if l.passes > 0 && o.redirectList(l, high, following) {
				moved = true
			}
		}
		if low != 0 {
			following = low
		}
		end = first
	}
	return moved
}

// bounds are the first and the last slot of some lists; 0 if they have none.
func bounds(lists []*list) (low, high uint32) {
	for _, l := range lists {
		for _, it := range l.items {
			if low == 0 {
				low = it.slot
			}
			high = max(high, it.slot)
		}
	}
	return low, high
}

func (o *order) redirectList(l *list, high, following uint32) (moved bool) {
	for _, it := range l.items {
		switch {
		case it.action != layout.ActionPass || it.slot == 0:
		case !it.filled:
			it.next = high + 1 + (following-high-1)/2
		case it.next <= high || it.next > following:
			o.evict(it)
			moved = true
		}
	}
	return moved
}

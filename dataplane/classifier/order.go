package classifier

import (
	"slices"

	"github.com/margay-project/margay/bpf/layout"
)

// order keeps all lists of the node in the order of evaluation, and gives their items slots in the same order, with
// gaps between them. An item keeps its slot for as long as it lives. If it must move, a copy of it keeps the old slot
// until no mask has it.
type order struct {
	lists    []*list            // ascending by position
	occupied []uint64           // one bit for each slot; a retired item occupies its slot until reuseSlots
	total    uint32             // slots; the first and the last one are never used, so that each slot has a next one
	items    int                // in the lists, as the last fillGaps counted them
	pending  map[*list]struct{} // lists whose items changed or need slots; fillSlots removes those that are complete
	retired  []retired
	round    *uint64     // the classifier's
	onCopy   func(*item) // called for each copy that evict makes
}

// retired is an item that no list has any more, and the round in which it was retired.
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

// insert adds a list at its position. Its items need slots.
func (o *order) insert(l *list) {
	o.lists = slices.Insert(o.lists, o.find(l), l)
	o.pending[l] = struct{}{}
}

// find returns the index of a list in lists, or the index where it belongs.
func (o *order) find(l *list) int {
	at, _ := slices.BinarySearchFunc(o.lists, l, func(x, y *list) int { return x.position.compare(y.position) })
	return at
}

// unlink takes a list out of lists and leaves its items alone.
func (o *order) unlink(l *list) {
	at := o.find(l)
	if at == len(o.lists) || o.lists[at] != l { // two lists at the same place
		at = slices.Index(o.lists, l)
	}
	o.lists = slices.Delete(o.lists, at, at+1)
}

// remove takes a list out of the order and retires its items.
func (o *order) remove(l *list) {
	o.unlink(l)
	delete(o.pending, l)
	for _, it := range l.items {
		o.retire(it)
	}
	l.items = nil
}

// move gives a list another position, and so other slots.
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

// retire notes that an item has left its list. Its slot stays occupied until no mask has it; a slot that is not in the
// tables yet is free at once.
func (o *order) retire(it *item) {
	if it.slot != 0 && !it.filled { // it is not in the tables
		o.vacate(it.slot)
		it.slot = 0
	}
	o.retired = append(o.retired, retired{*o.round, it})
}

// evict takes the slot of an item away, so that it gets another one. If the tables have the item, a retired copy keeps
// the slot.
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

// assignSlots gives slots to all items that need one. If there is no room for all, the error names the lists that go
// without; these are not complete.
func (o *order) assignSlots() error {
	if len(o.pending) == 0 {
		return nil
	}
	const tries = 8 // when a Pass gets another slot, another Pass seldom has to
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

// redirect sets the target of each Pass: the middle of the gap between its tier and the one that follows, so that both
// tiers may grow. It reports whether it evicted a Pass because its tier has outgrown the target already written.
func (o *order) redirect() (evicted bool) {
	following := o.total - 1
	for end := len(o.lists); end > 0; {
		first := end - 1
		for first > 0 && o.lists[first-1].position.sameTier(o.lists[end-1].position) {
			first--
		}
		tier := o.lists[first:end]
		low, high := bounds(tier)
		if tier[0].position.group == failsafes { // nothing follows its Pass: the target is the last slot, which no rule has
			high, following = o.total-2, o.total-1
		}
		for _, l := range tier {
			if l.passes > 0 && o.redirectList(l, high, following) {
				evicted = true
			}
		}
		if low != 0 {
			following = low
		}
		end = first
	}
	return evicted
}

// bounds returns the first and the last slot of some lists; 0, 0 if they have none.
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

// redirectList sets the targets in one list. A target must be above high, the last slot of the tier, and not above
// following, the first slot after the tier.
func (o *order) redirectList(l *list, high, following uint32) (evicted bool) {
	for _, it := range l.items {
		switch {
		case it.action != layout.ActionPass || it.slot == 0:
		case !it.filled:
			it.next = high + 1 + (following-high-1)/2
		case it.next <= high || it.next > following:
			o.evict(it)
			evicted = true
		}
	}
	return evicted
}

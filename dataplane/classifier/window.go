package classifier

import (
	"fmt"
	"math/bits"
)

// fillGaps finds slots for the items without a slot. If a run of such items finds no room, the list with most of them is
// left out until the next assignSlots, so that the others go on; then fillGaps returns false and is called again.
func (o *order) fillGaps(f *errorList) (done bool) {
	sequence := make([]*item, 0, o.items)
	for _, l := range o.lists {
		for _, it := range l.items {
			if !l.noRoom || it.slot != 0 { // an item with a slot keeps its place among the others
				sequence = append(sequence, it)
			}
		}
	}
	o.items = len(sequence)
	for i := 0; i < len(sequence); {
		if sequence[i].slot != 0 {
			i++
			continue
		}
		j := i + 1
		for j < len(sequence) && sequence[j].slot == 0 {
			j++
		}
		w := window{order: o, sequence: sequence, first: i, end: j}
		if !w.open() {
			l := largest(sequence[i:j])
			l.noRoom = true
			full := &ErrFull{What: "slots", Size: int(o.total)}
			f.add(fmt.Errorf("%s, %d rules: %w", l.position.name, len(l.items), full))
			return false
		}
		w.spread()
		i = w.end
	}
	return true
}

// largest returns the list that has the most of some items.
func largest(items []*item) *list {
	counts := map[*list]int{}
	most := items[0].list
	for _, it := range items {
		if counts[it.list]++; counts[it.list] > counts[most] {
			most = it.list
		}
	}
	return most
}

// window is a run of neighbours in the order, and the slots between the item before and the item after it.
type window struct {
	*order
	sequence   []*item // all items that take part, in order
	first, end int     // the window is sequence[first:end]
	from, to   uint32  // its items may have the slots from <= slot < to
	free       int     // how many of these are not occupied
}

// open widens the window until its items have room, and evicts those that have slots already. It is false if there is
// no room at all.
func (w *window) open() bool {
	w.measure()
	if w.free < w.end-w.first && !w.sideways() && !w.around() {
		return false
	}
	for _, it := range w.sequence[w.first:w.end] {
		w.evict(it)
	}
	return true
}

// sideways widens the window on one side, to the nearest gap with some spare room. It looks at 4 * run items on each
// side: then a change copies few rules.
func (w *window) sideways() bool {
	const far = 4 * run
	need := w.end - w.first
	left, right := w.free, w.free // free slots if the window grew only to the left, or only to the right
	leftmost, rightmost := w.first, w.end
	for more := 1; more <= far; more++ {
		enough := need + more + more/4
		if leftmost > 0 && w.sequence[leftmost-1].slot != 0 {
			leftmost--
			left += w.countFree(w.above(leftmost), w.sequence[leftmost].slot)
			if left >= enough && (leftmost == 0 || w.sequence[leftmost-1].slot != 0) {
				w.first = leftmost
				w.measure()
				return true
			}
		}
		if rightmost < len(w.sequence) && w.sequence[rightmost].slot != 0 {
			rightmost++
			right += w.countFree(w.sequence[rightmost-1].slot, w.below(rightmost))
			if right >= enough && (rightmost == len(w.sequence) || w.sequence[rightmost].slot != 0) {
				w.end = rightmost
				w.measure()
				return true
			}
		}
	}
	return false
}

// around widens the window on both sides, twice as far with each step, until a fifth of its slots would stay free.
func (w *window) around() bool {
	for step := 1; w.free < w.end-w.first+(w.end-w.first)/4; step *= 2 {
		if w.first == 0 && w.end == len(w.sequence) {
			return w.free >= w.end-w.first
		}
		w.first = max(w.first-step, 0)
		w.end = min(w.end+step, len(w.sequence))
		for w.first > 0 && w.sequence[w.first-1].slot == 0 {
			w.first--
		}
		for w.end < len(w.sequence) && w.sequence[w.end].slot == 0 {
			w.end++
		}
		w.measure()
	}
	return true
}

// above returns the lowest slot that item i could have: the one after the slot of item i-1. If item i-1 has no slot, it
// must be placed in the same gap. Then the gap does not count, and above returns the slot of item i.
func (w *window) above(i int) uint32 {
	switch {
	case i == 0:
		return 0
	case w.sequence[i-1].slot == 0:
		return w.sequence[i].slot
	}
	return w.sequence[i-1].slot + 1
}

// below returns the end of the slots that item i-1 could have: the slot of item i. If item i has no slot, the gap does
// not count either, and below returns the slot of item i-1.
func (w *window) below(i int) uint32 {
	switch {
	case i == len(w.sequence):
		return w.total
	case w.sequence[i].slot == 0:
		return w.sequence[i-1].slot
	}
	return w.sequence[i].slot
}

// measure sets from, to and free after first or end has changed.
func (w *window) measure() {
	w.from, w.to = 0, w.total
	if w.first > 0 {
		w.from = w.sequence[w.first-1].slot + 1
	}
	if w.end < len(w.sequence) {
		w.to = w.sequence[w.end].slot
	}
	w.free = w.countFree(w.from, w.to)
}

// countFree counts the free slots of from <= slot < to.
func (o *order) countFree(from, to uint32) int {
	free := 0
	for at := from; at < to; {
		stop := min(to, (at/64+1)*64)
		mask := ^uint64(0) << (at % 64)
		if stop%64 != 0 {
			mask &= 1<<(stop%64) - 1
		}
		free += bits.OnesCount64(^o.occupied[at/64] & mask)
		at = stop
	}
	return free
}

// run is how many items of a list stand without a gap, at most. A rule that is inserted then moves few others.
const run = 16

// spread gives the items of the window slots: runs without gaps, and after each run a gap in proportion to its length, so
// that later rules fit there.
func (w *window) spread() {
	items := w.sequence[w.first:w.end]
	runs := cutRuns(items)
	weight := 0 // of all gaps
	for _, r := range runs {
		weight += r + 1
	}
	lead := 0 // weight of a gap before the first run: only after another list, or if the window is inside one list
	if w.first > 0 && (items[0].list != w.sequence[w.first-1].list || w.inside()) {
		lead = runs[0] + 1
	}
	weight += lead
	spare := w.free - len(items) // slots of all gaps
	passed := lead               // weight of the gaps so far
	skipped := 0                 // slots of the gaps so far: spare in proportion to passed
	slot := w.from
	for _, r := range runs {
		for ; skipped < spare*passed/weight; skipped++ {
			slot = w.nextFree(slot) + 1
		}
		for range r {
			slot = w.nextFree(slot)
			items[0].slot = slot
			w.occupy(slot)
			w.pending[items[0].list] = struct{}{}
			items = items[1:]
			slot++
		}
		passed += r + 1
	}
}

// inside says whether the window begins and ends within one list.
func (w *window) inside() bool {
	return w.first > 0 && w.end < len(w.sequence) && w.sequence[w.first-1].list == w.sequence[w.end].list
}

// cutRuns returns the lengths of the runs: a run ends after 16 items and with its list.
func cutRuns(items []*item) (runs []int) {
	n := 0
	for i, it := range items {
		if n++; n == run || i+1 == len(items) || items[i+1].list != it.list {
			runs = append(runs, n)
			n = 0
		}
	}
	return runs
}

// nextFree returns the first free slot from a slot on. There must be one.
func (o *order) nextFree(slot uint32) uint32 {
	for at := slot / 64; ; at++ {
		free := ^o.occupied[at]
		if at == slot/64 {
			free &= ^uint64(0) << (slot % 64)
		}
		if free != 0 {
			return at*64 + uint32(bits.TrailingZeros64(free))
		}
	}
}

package classifier

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// group is the coarsest order of slots.
type group uint8

const (
	failsafes group = iota
	tiers
	profiles
)

// place says where a list stands in the one order of the node.
type place struct {
	group  group
	tier   calc.Tier
	end    bool // of the tier: after its policies
	order  calc.Order
	name   string // tie-break: PolicyID.TieBreak; of profiles: their names
	egress bool   // no matter: no mask has both directions
}

func (p place) compare(q place) int {
	return cmp.Or(
		cmp.Compare(p.group, q.group),
		p.tier.Compare(q.tier),
		after(p.end, q.end),
		p.order.Compare(q.order),
		strings.Compare(p.name, q.name),
		after(p.egress, q.egress),
	)
}

// sameTier says whether a Pass in one skips the other.
func (p place) sameTier(q place) bool { return p.group == q.group && p.tier.Name == q.tier.Name }

func after(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// list is the rules of a policy in one direction, the end of a tier, or the rules of a list of profiles.
type list struct {
	place   place
	serial  uint32
	items   []*item
	refused string // why it may not be used
	specs   map[*spec]struct{}
	slots   slotSet // of items, once all have one
	whole   bool    // all items have slots, and slots is theirs
	out     bool    // there was no room for it in this settle
	passes  int
	logs    int
	depth   int // continuations up to and with the last Pass
	ports   bool
}

// item is a rule that has a slot, or needs one.
type item struct {
	id      calc.RuleID
	hash    uint64
	rule    *calc.Rule // nil: it matches everything
	variant *variant   // nil: the rule has none
	action  uint8
	conds   [layout.Dims]*condition // nil: the dimension is not constrained
	list    *list
	slot    uint32 // 0: none yet
	next    uint32 // for Pass
	filled  bool   // the program's tables have it
}

// summarize counts what may make a search go on.
func (l *list) summarize() {
	l.passes, l.logs, l.depth, l.ports = 0, 0, 0, false
	for i, it := range l.items {
		switch {
		case i > 0 && it.id == l.items[i-1].id: // a variant of the same rule: no packet meets both
		case it.action == layout.ActionPass:
			l.passes++
			l.depth = l.logs + 1
		case it.action == layout.ActionLog:
			l.logs++
		}
		l.ports = l.ports || it.conds[layout.DimSourcePort] != nil
	}
}

// order gives every rule its slot. Slots stand in the order of evaluation, with gaps, and a rule keeps its slot for as
// long as it lives; what would have to move is copied, and the old slot stays until no mask has it.
type order struct {
	lists   []*list
	taken   []uint64 // slots, of rules alive or not
	total   uint32   // the first and the last slot are never used, so that there is always a next one
	items   int
	changed map[*list]struct{} // since the last settle: their slots are to be set
	retired []retired
	epoch   *uint64
	onMove  func(*item) // called with the copy that stays behind
}

type retired struct {
	epoch uint64
	item  *item
}

func newOrder(blocks int, epoch *uint64) order {
	o := order{
		total:   uint32(blocks * layout.BlockSlots),
		taken:   make([]uint64, blocks*layout.BlockWords),
		changed: map[*list]struct{}{},
		epoch:   epoch,
	}
	o.take(0)
	o.take(o.total - 1)
	return o
}

func (o *order) take(slot uint32)    { o.taken[slot/64] |= 1 << (slot % 64) }
func (o *order) release(slot uint32) { o.taken[slot/64] &^= 1 << (slot % 64) }

// insert adds a list at its place. Its items need slots.
func (o *order) insert(l *list) {
	o.lists = slices.Insert(o.lists, o.find(l), l)
	o.changed[l] = struct{}{}
}

// find is where a list stands, or belongs.
func (o *order) find(l *list) int {
	at, _ := slices.BinarySearchFunc(o.lists, l, func(x, y *list) int { return x.place.compare(y.place) })
	return at
}

func (o *order) takeOut(l *list) {
	at := o.find(l)
	if at == len(o.lists) || o.lists[at] != l { // two lists at the same place
		at = slices.Index(o.lists, l)
	}
	o.lists = slices.Delete(o.lists, at, at+1)
}

// remove takes a list out; its items are retired.
func (o *order) remove(l *list) {
	o.takeOut(l)
	delete(o.changed, l)
	for _, it := range l.items {
		o.retire(it)
	}
	l.items = nil
}

// move gives a list another place, and so other slots.
func (o *order) move(l *list, to place) {
	if l.place == to {
		return
	}
	o.takeOut(l)
	for _, it := range l.items {
		o.unplace(it)
	}
	l.place = to
	o.insert(l)
}

// retire gives up an item. Its slot stays taken until no mask has it.
func (o *order) retire(it *item) {
	if it.slot != 0 && !it.filled { // nobody has seen it
		o.release(it.slot)
		it.slot = 0
	}
	o.retired = append(o.retired, retired{*o.epoch, it})
}

// unplace makes an item need another slot; a copy of it keeps the one that it has.
func (o *order) unplace(it *item) {
	switch {
	case it.slot == 0:
		return
	case it.filled:
		old := *it
		o.onMove(&old)
		o.retire(&old)
	default:
		o.release(it.slot)
	}
	it.slot, it.filled = 0, false
	o.changed[it.list] = struct{}{}
}

// settle gives slots to all items that need one. With an error some lists are not whole.
func (o *order) settle() error {
	if len(o.changed) == 0 {
		return nil
	}
	const tries = 8 // a Pass that moves rarely makes another move
	var f faults
	for try := range tries {
		for !o.arrange(&f) {
		}
		if !o.redirect() {
			break
		}
		if try+1 == tries {
			f.add(&ErrFull{What: "slots", Size: int(o.total)})
		}
	}
	for l := range o.changed {
		l.out = false
		l.slots, l.whole = nil, true
		for _, it := range l.items {
			if it.slot == 0 {
				l.whole = false
				break
			}
			l.slots.add(it.slot)
		}
	}
	return f.err("lists of rules")
}

// arrange finds slots for the items without. When there is no room, what needs the most of it stays out until the
// next settle, so that the rest goes on; then it has to start over.
func (o *order) arrange(f *faults) (done bool) {
	sequence := make([]*item, 0, o.items)
	for _, l := range o.lists {
		for _, it := range l.items {
			if !l.out || it.slot != 0 { // what has a slot keeps its place among the others
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
			l.out = true
			full := &ErrFull{What: "slots", Size: int(o.total)}
			f.add(fmt.Errorf("%s, %d rules: %w", l.place.name, len(l.items), full))
			return false
		}
		w.assign()
		i = w.end
	}
	return true
}

// largest is the list with the most of some items without slots.
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

// window is the items from first up to end and the room between their neighbours.
type window struct {
	*order
	sequence   []*item
	first, end int
	from, to   uint32 // the slots that they may have, without to
	free       int
}

// open widens the window until its items have room. Those that have a slot in it will get another one.
// It reports whether there is room at all.
func (w *window) open() bool {
	w.measure()
	if w.free < w.end-w.first && !w.sideways() && !w.around() {
		return false
	}
	for _, it := range w.sequence[w.first:w.end] {
		w.unplace(it)
	}
	return true
}

// sideways widens the window to the nearest gap, on one side.
func (w *window) sideways() bool {
	const far = 4 * run
	need := w.end - w.first
	left, right := w.free, w.free // slots that are free in a window that is wider on that side
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

// around widens the window on both sides.
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

// above is the first slot behind the item before i, below the slot of the item i; an item without a slot has no room.
func (w *window) above(i int) uint32 {
	switch {
	case i == 0:
		return 0
	case w.sequence[i-1].slot == 0:
		return w.sequence[i].slot
	}
	return w.sequence[i-1].slot + 1
}

func (w *window) below(i int) uint32 {
	switch {
	case i == len(w.sequence):
		return w.total
	case w.sequence[i].slot == 0:
		return w.sequence[i-1].slot
	}
	return w.sequence[i].slot
}

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

// countFree counts the free slots from one up to, but without, another.
func (o *order) countFree(from, to uint32) int {
	free := 0
	for at := from; at < to; {
		stop := min(to, (at/64+1)*64)
		mask := ^uint64(0) << (at % 64)
		if stop%64 != 0 {
			mask &= 1<<(stop%64) - 1
		}
		free += bits.OnesCount64(^o.taken[at/64] & mask)
		at = stop
	}
	return free
}

// run is the length of the longest stretch of a list without a gap: then a change copies few rules to find one.
const run = 16

// assign spreads the items: runs without gaps, and between them gaps in proportion, so that successors fit there.
func (w *window) assign() {
	items := w.sequence[w.first:w.end]
	runs := cutRuns(items)
	weight := 0
	for _, r := range runs {
		weight += r + 1
	}
	lead := 0
	if w.first > 0 && (items[0].list != w.sequence[w.first-1].list || w.inside()) {
		lead = runs[0] + 1
	}
	weight += lead
	spare, passed, skipped := w.free-len(items), lead, 0
	slot := w.from
	for _, r := range runs {
		for ; skipped < spare*passed/weight; skipped++ {
			slot = w.nextFree(slot) + 1
		}
		for range r {
			slot = w.nextFree(slot)
			items[0].slot = slot
			w.take(slot)
			w.changed[items[0].list] = struct{}{}
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

// nextFree is the first free slot that is not below another.
func (o *order) nextFree(slot uint32) uint32 {
	for at := slot / 64; ; at++ {
		free := ^o.taken[at]
		if at == slot/64 {
			free &= ^uint64(0) << (slot % 64)
		}
		if free != 0 {
			return at*64 + uint32(bits.TrailingZeros64(free))
		}
	}
}

// redirect sends each Pass behind the end of its tier: in the middle of the gap before what follows, so that both may
// grow. It reports whether a Pass that stands already has to be copied because its tier has outgrown it.
func (o *order) redirect() (moved bool) {
	following := o.total - 1
	for end := len(o.lists); end > 0; {
		first := end - 1
		for first > 0 && o.lists[first-1].place.sameTier(o.lists[end-1].place) {
			first--
		}
		tier := o.lists[first:end]
		low, high := bounds(tier)
		if tier[0].place.group == failsafes { // nothing is to follow
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
			o.unplace(it)
			moved = true
		}
	}
	return moved
}

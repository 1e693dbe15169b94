package classifier

import (
	"sync/atomic"

	"github.com/margay-project/margay/bpf/layout"
)

// fillSlots writes the items that have just got a slot into the tables. No mask has these slots yet. Lists that are
// complete are no longer pending; their rulesets are.
func (c *Classifier) fillSlots() {
	for l := range c.order.pending {
		for _, it := range l.items {
			if it.slot != 0 && !it.filled {
				c.fillSlot(it)
			}
		}
		if l.complete {
			delete(c.order.pending, l)
			for s := range l.rulesets {
				c.pendingRulesets[s] = struct{}{}
			}
		}
	}
}

// fillSlot writes one slot: its action, its wild bits, and a note for the classes, which addNewSlots writes.
func (c *Classifier) fillSlot(it *item) {
	c.mem.Slots[it.slot] = layout.Slot{Rule: it.hash, Next: it.next, Action: it.action}
	for dim, cond := range it.conds {
		if cond == nil || len(cond.in) == 0 {
			c.setWild(it.slot, dim)
		}
		if cond != nil {
			s := c.side(dim)
			s.classes.addSlot(cond, s.at, it.slot)
		}
	}
	it.filled = true
	c.mem.store()
}

// wild returns the word with the bit of a slot in the wild bits of a dimension, the summary of that block, and the
// word's bit in the summary.
func (c *Classifier) wild(slot uint32, dim int) (word, summary *uint64, at uint32) {
	w := &c.mem.Wild[slot/uint32(layout.BlockSlots)]
	at = slot / 64 % uint32(layout.BlockWords)
	return &w.Words[at][dim], &w.Summary[dim], at
}

// setWild sets the bit before the summary that leads to it.
func (c *Classifier) setWild(slot uint32, dim int) {
	word, summary, at := c.wild(slot, dim)
	atomic.StoreUint64(word, *word|1<<(slot%64))
	if *summary&(1<<at) == 0 {
		atomic.StoreUint64(summary, *summary|1<<at)
	}
}

// clearWild clears the bit of a slot that no mask has.
func (c *Classifier) clearWild(slot uint32, dim int) {
	word, summary, at := c.wild(slot, dim)
	atomic.StoreUint64(word, *word&^(1<<(slot%64)))
	if *word == 0 {
		atomic.StoreUint64(summary, *summary&^(1<<at))
	}
	c.mem.store()
}

// reuseSlots frees the items that were retired up to the given round, if no mask has their slots: first their bits, then the slots,
// numbers and conditions.
func (c *Classifier) reuseSlots(round uint64) {
	type use struct {
		cond *condition
		dim  int
	}
	gone := map[use]*slotSet{}
	masked := map[uint32][]uint64{} // by block: slots that some mask has
	keep := c.order.retired[:0]
	for _, r := range c.order.retired {
		it := r.item
		if r.round > round || it.slot != 0 && c.inMask(masked, it.slot) {
			keep = append(keep, r)
			continue
		}
		for dim, cond := range it.conds {
			if it.slot == 0 {
				continue
			}
			c.clearWild(it.slot, dim)
			if cond != nil {
				u := use{cond, dim}
				if gone[u] == nil {
					gone[u] = &slotSet{}
				}
				gone[u].add(it.slot)
			}
		}
		c.freed = append(c.freed, it)
	}
	clear(c.order.retired[len(keep):])
	c.order.retired = keep
	for u, slots := range gone {
		s := c.side(u.dim)
		s.classes.removeSlots(u.cond, s.at, *slots, c.round)
	}
	for _, it := range c.freed {
		c.forget(it)
	}
	c.freed = c.freed[:0]
}

// inMask says whether some mask has a slot. It keeps the union of all masks, by block, in masked.
func (c *Classifier) inMask(masked map[uint32][]uint64, slot uint32) bool {
	block := slot / uint32(layout.BlockSlots)
	words, known := masked[block]
	if !known {
		words = c.masks.union(block)
		masked[block] = words
	}
	return words[slot/64%uint32(layout.BlockWords)]&(1<<(slot%64)) != 0
}

// forget frees the slot of an item, and its references to its number and conditions.
func (c *Classifier) forget(it *item) {
	if it.slot != 0 {
		c.mem.Slots[it.slot] = layout.Slot{}
		c.order.vacate(it.slot)
		c.mem.store()
	}
	if n := c.ruleNames[it.hash]; n != nil {
		if n.items--; n.items == 0 {
			delete(c.ruleNames, it.hash)
		}
	}
	for dim, cond := range it.conds {
		if cond == nil {
			continue
		}
		for _, v := range c.side(dim).classes.releaseCondition(cond) {
			switch dim {
			case layout.DimService:
				c.services.retire(v)
			case layout.DimSourcePort:
				c.sourcePorts.retire(v)
			default:
				c.addresses.retire(v)
			}
		}
	}
}

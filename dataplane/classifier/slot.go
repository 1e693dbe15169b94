package classifier

import (
	"sync/atomic"

	"github.com/margay-project/margay/bpf/layout"
)

// fillSlots writes the rules that have just got a slot. No mask has them yet.
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

func (c *Classifier) wild(slot uint32, dim int) (word, summary *uint64, at uint32) {
	w := &c.mem.Wild[slot/uint32(layout.BlockSlots)]
	at = slot / 64 % uint32(layout.BlockWords)
	return &w.Words[at][dim], &w.Summary[dim], at
}

func (c *Classifier) setWild(slot uint32, dim int) {
	word, summary, at := c.wild(slot, dim)
	atomic.StoreUint64(word, *word|1<<(slot%64))
	if *summary&(1<<at) == 0 {
		atomic.StoreUint64(summary, *summary|1<<at)
	}
}

func (c *Classifier) clearWild(slot uint32, dim int) {
	word, summary, at := c.wild(slot, dim)
	atomic.StoreUint64(word, *word&^(1<<(slot%64)))
	if *word == 0 {
		atomic.StoreUint64(summary, *summary&^(1<<at))
	}
	c.mem.store()
}

// reuseSlots frees the slots of retired rules that no mask has any more, and what only these rules needed.
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

func (c *Classifier) inMask(masked map[uint32][]uint64, slot uint32) bool {
	block := slot / uint32(layout.BlockSlots)
	words, known := masked[block]
	if !known {
		words = c.masks.union(block)
		masked[block] = words
	}
	return words[slot/64%uint32(layout.BlockWords)]&(1<<(slot%64)) != 0
}

// forget gives back an item's slot, name and conditions.
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

package classifier

import (
	"cmp"
	"strings"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// group is the coarsest part of a list's position.
type group uint8

const (
	failsafes group = iota // before every tier
	tiers
	profiles // after the last tier
)

// position is where a list stands in the one order of evaluation of the node. It compares as calc does: see
// calc.Tier.Compare, calc.Order.Compare and PolicyID.TieBreak.
type position struct {
	group  group
	tier   calc.Tier // in group tiers, without its Default, which does not move it
	end    bool      // this is the list after the policies of the tier
	order  calc.Order
	name   string // PolicyID.TieBreak of a policy; profileList.key
	egress bool   // only so that positions differ: no mask has rules of both directions
}

// compare is negative if p is evaluated before q.
func (p position) compare(q position) int {
	return cmp.Or(
		cmp.Compare(p.group, q.group),
		p.tier.Compare(q.tier),
		after(p.end, q.end),
		p.order.Compare(q.order),
		strings.Compare(p.name, q.name),
		after(p.egress, q.egress),
	)
}

// sameTier says whether a Pass in a list at p skips a list at q that follows it.
func (p position) sameTier(q position) bool { return p.group == q.group && p.tier.Name == q.tier.Name }

// after compares two flags: false comes first.
func after(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// list is a run of rules that stand together in the order: of a policy in one direction, of the end of a tier, or of a
// list of profiles.
type list struct {
	position position // changed by order.move
	serial   uint32   // unique; part of the keys of rulesets
	items    []*item  // in the order of evaluation; set by setRules
	problem  string   // why endpoints that need it must be closed; empty: none. Set by setRules and removePolicy
	rulesets map[*ruleset]struct{}

	// Set by assignSlots.
	slots    slotSet // of all items; empty unless complete
	complete bool    // all items have slots
	noRoom   bool    // within one assignSlots: there is no room for the items without slots

	// Set by summarize.
	passes int  // rules with Pass
	logs   int  // rules with Log
	depth  int  // the Logs before the last Pass, plus 1 for that Pass; 0: no Pass
	ports  bool // some rule asks for the source port
}

// item is a rule of a list, or one variant of a rule, that has a slot or needs one. Apart from slot, next and filled it
// never changes; a rule that changes gets a new item.
type item struct {
	id      calc.RuleID
	hash    uint64                  // the rule's number in the slot
	rule    *calc.Rule              // nil: it matches every packet
	variant *variant                // nil: the rule has no named ports
	action  uint8                   // layout.ActionAllow and the like
	conds   [layout.Dims]*condition // by dimension, each with one reference; nil: every packet meets it
	list    *list
	slot    uint32 // set by the allocator, 0 by evict; 0: none yet
	next    uint32 // of a Pass: the slot where the search goes on; set by redirect
	filled  bool   // the tables have it: slot and next must not change any more
}

// summarize counts the rules after which a search goes on.
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

// newList adds an empty list to the order.
func (c *Classifier) newList(p position) *list {
	c.serial++
	l := &list{position: p, serial: c.serial, rulesets: map[*ruleset]struct{}{}, complete: true}
	c.order.insert(l)
	return l
}

// moveList gives a list another position, with other slots for all its items.
func (c *Classifier) moveList(l *list, to position) {
	if l.position != to {
		c.order.move(l, to)
		c.resolveAgain(l)
	}
}

// same says whether an item already does what a wanted rule asks for.
func (it *item) same(w wantedRule) bool {
	if it.action != actionOf(w.action) {
		return false
	}
	if it.rule == nil || w.rule == nil {
		return it.rule == w.rule
	}
	return sameRule(it.rule, w.rule)
}

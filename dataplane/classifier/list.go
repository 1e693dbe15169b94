package classifier

import (
	"cmp"
	"strings"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// group is the coarsest order of slots.
type group uint8

// position says where a list stands in the one order of the node.
type position struct {
	group  group
	tier   calc.Tier
	end    bool // of the tier: after its policies
	order  calc.Order
	name   string // tie-break: PolicyID.TieBreak; of profiles: their names
	egress bool   // no matter: no mask has both directions
}

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

// sameTier says whether a Pass in one skips the other.
func (p position) sameTier(q position) bool { return p.group == q.group && p.tier.Name == q.tier.Name }

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
	position position
	serial   uint32
	items    []*item
	problem  string // why it may not be used
	rulesets map[*ruleset]struct{}
	slots    slotSet // of items, once all have one
	complete bool    // all items have slots, and slots is theirs
	noRoom   bool    // there was no room for it in this settle
	passes   int
	logs     int
	depth    int // continuations up to and with the last Pass
	ports    bool
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

func (c *Classifier) newList(p position) *list {
	c.serial++
	l := &list{position: p, serial: c.serial, rulesets: map[*ruleset]struct{}{}, complete: true}
	c.order.insert(l)
	return l
}

func (c *Classifier) moveList(l *list, to position) {
	if l.position != to {
		c.order.move(l, to)
		c.resolveAgain(l)
	}
}

func (it *item) same(w wantedRule) bool {
	if it.action != actionOf(w.action) {
		return false
	}
	if it.rule == nil || w.rule == nil {
		return it.rule == w.rule
	}
	return sameRule(it.rule, w.rule)
}

package classifier

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// name is what a rule's number in the kernel stands for.
type name struct {
	id    calc.RuleID
	items int // that have it
}

// wanted is a rule that a list should have.
type wanted struct {
	id      calc.RuleID
	rule    *calc.Rule // nil: it matches everything, with this action
	does    api.Action
	variant *variant // nil: the rule has none
}

// key tells apart what a list has.
type key struct {
	id      calc.RuleID
	variant string
}

func (w wanted) key() key {
	if w.variant == nil {
		return key{id: w.id}
	}
	return key{w.id, w.variant.key}
}

func (it *item) key() key { return wanted{id: it.id, variant: it.variant}.key() }

// setRules brings a list to the rules that it should have. Rules that stay the same keep their slots.
func (c *Classifier) setRules(l *list, rules []wanted) {
	old := make(map[key]*item, len(l.items))
	for _, it := range l.items {
		old[it.key()] = it
	}
	items := make([]*item, 0, len(rules))
	changed := false
	refused, depth, logs := l.refused, l.depth, l.logs
	l.refused = ""
	for _, w := range rules {
		if it := old[w.key()]; it != nil && it.same(w) {
			items = append(items, it)
			delete(old, w.key())
			continue
		}
		it, err := c.compile(l, w)
		if err != nil {
			l.refused = err.Error()
			continue
		}
		if it != nil {
			items = append(items, it)
			changed = true
		}
	}
	for _, it := range l.items {
		if old[it.key()] == it {
			c.order.retire(it)
			changed = true
		}
	}
	l.items = items
	l.summarize()
	if changed {
		c.order.changed[l] = struct{}{}
	}
	if l.refused != refused || l.depth != depth || l.logs != logs {
		c.disturb(l)
	}
}

func (it *item) same(w wanted) bool {
	if it.action != actionOf(w.does) {
		return false
	}
	if it.rule == nil || w.rule == nil {
		return it.rule == w.rule
	}
	return sameRule(it.rule, w.rule)
}

func actionOf(a api.Action) uint8 {
	switch a {
	case api.Allow:
		return layout.ActionAllow
	case api.Pass:
		return layout.ActionPass
	case api.Log:
		return layout.ActionLog
	}
	return layout.ActionDeny
}

// compile makes the item of a rule, or nil if the rule can match nothing.
func (c *Classifier) compile(l *list, w wanted) (*item, error) {
	it := &item{id: w.id, hash: c.hash(w.id), rule: w.rule, variant: w.variant, action: actionOf(w.does), list: l}
	if n := c.names[it.hash]; n != nil && !n.sameRule(w.id) {
		return nil, fmt.Errorf("rule %v has the same number as rule %v: rename one of the policies", w.id, n.id)
	}
	if !c.condition(it) {
		return nil, nil
	}
	c.own(it)
	return it, nil
}

// condition gives an item the conditions of its rule. It reports whether the rule can match anything.
func (c *Classifier) condition(it *item) bool {
	r, v := it.rule, it.variant
	if r == nil {
		return true
	}
	if r.Never || !r.V4 && !r.V6 {
		return false
	}
	if v == nil {
		v = &variant{services: servicesOf(r), ports: sourcePortsOf(r)}
	}
	if len(v.services) == 0 || len(v.ports) == 0 {
		return false
	}
	it.conds[layout.DimSource] = c.addresses.match(&r.Source, v.source, familyOf(r))
	it.conds[layout.DimDest] = c.addresses.match(&r.Destination, v.dest, anyFamily)
	it.conds[layout.DimService] = c.services.match(v.services)
	it.conds[layout.DimSourcePort] = c.sourcePorts.match(v.ports)
	return true
}

// own counts an item among those that have its name. Its conditions are counted already.
func (c *Classifier) own(it *item) {
	n := c.names[it.hash]
	if n == nil {
		n = &name{id: it.id}
		c.names[it.hash] = n
	}
	n.id = it.id
	n.items++
}

// sameRule leaves out the tier, of which a rule's number does not depend.
func (n *name) sameRule(id calc.RuleID) bool {
	id.Tier = n.id.Tier
	return n.id == id
}

// copied counts the copy of an item that stays behind when the item moves.
func (c *Classifier) copied(it *item) {
	c.own(it)
	for _, cond := range it.conds {
		if cond != nil {
			cond.rules++
		}
	}
}

// match is the condition that one side of a rule has for addresses, with that of a variant, or nil.
func (a *addresses) match(m *calc.Match, n named, f family) *condition {
	var in, out []*view
	add := func(to *[]*view, x *view) {
		if !slices.Contains(*to, x) {
			*to = append(*to, x)
		}
	}
	if len(m.Nets) > 0 {
		add(&in, a.list(m.Nets))
	}
	if m.Set != "" {
		add(&in, a.set(m.Set))
	}
	if len(m.NotNets) > 0 {
		add(&out, a.list(m.NotNets))
	}
	if m.NotSet != "" {
		add(&out, a.set(m.NotSet))
	}
	if n.in != "" {
		add(&in, a.set(n.in))
	}
	for _, id := range n.out {
		add(&out, a.set(id))
	}
	switch f {
	case onlyV4:
		add(&in, a.list([]netip.Prefix{allV4}))
	case onlyV6:
		add(&out, a.list([]netip.Prefix{allV4}))
	}
	if len(in)+len(out) == 0 {
		return nil
	}
	return a.condition(in, out)
}

// match is the condition for some points of a line, or nil for all of them.
func (l *line) match(s intervals) *condition {
	if len(s) == 1 && s[0] == (interval{0, l.points - 1}) {
		return nil
	}
	return l.condition([]*view{l.viewOf(s)}, nil)
}

// policyRules are what the list of a policy in one direction should have.
func policyRules(p *calc.Policy, dir calc.Direction) []wanted {
	rules := p.Ingress
	if dir == calc.Egress {
		rules = p.Egress
	}
	out := make([]wanted, 0, len(rules))
	for i := range rules {
		w := wanted{
			id:   calc.RuleID{Policy: p.ID, Tier: p.Tier, Direction: dir, Index: i},
			rule: &rules[i],
			does: rules[i].Action,
		}
		variants, has := variantsOf(&rules[i])
		if !has {
			out = append(out, w)
			continue
		}
		for _, v := range variants {
			w.variant = v
			out = append(out, w)
		}
	}
	return out
}

// tierEnd is what the list behind a tier's policies should have: nothing if the search just goes on.
func tierEnd(t calc.Tier, dir calc.Direction) []wanted {
	if t.Default == api.Pass && !t.Missing {
		return nil
	}
	id := calc.PolicyID{Kind: api.KindTier, Name: t.Name}
	return []wanted{{id: calc.RuleID{Policy: id, Tier: t.Name, Direction: dir, Index: -1}, does: api.Deny}}
}

// profileRules are what the list of some profiles should have. There is nothing to pass to, so Pass denies.
func profileRules(ps []*calc.Policy, dir calc.Direction) []wanted {
	var out []wanted
	for _, p := range ps {
		for _, w := range policyRules(p, dir) {
			if w.does == api.Pass {
				w.does = api.Deny
			}
			out = append(out, w)
		}
	}
	id := calc.PolicyID{Kind: calc.KindEnd}
	return append(out, wanted{id: calc.RuleID{Policy: id, Direction: dir, Index: -1}, does: api.Deny})
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

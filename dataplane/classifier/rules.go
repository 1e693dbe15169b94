package classifier

import (
	"fmt"
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// ruleName is the rule that a number in the tables stands for, and how many items have the number.
type ruleName struct {
	id    calc.RuleID
	items int // in lists or retired
}

// wantedRule is a rule, or a variant of one, that a list should have.
type wantedRule struct {
	id      calc.RuleID
	rule    *calc.Rule // nil: it matches every packet
	action  api.Action // not rule.Action: the Pass of a profile denies
	variant *variant   // nil: the rule has no named ports
}

// ruleKey identifies an item within its list.
type ruleKey struct {
	id      calc.RuleID
	variant string
}

func (w wantedRule) key() ruleKey {
	if w.variant == nil {
		return ruleKey{id: w.id}
	}
	return ruleKey{w.id, w.variant.key}
}

func (it *item) key() ruleKey { return wantedRule{id: it.id, variant: it.variant}.key() }

// setRules brings a list to the rules that it should have. Rules that stay the same keep their items and slots. A rule
// that cannot be compiled is left out, and is the problem of the list.
func (c *Classifier) setRules(l *list, rules []wantedRule) {
	old := make(map[ruleKey]*item, len(l.items))
	for _, it := range l.items {
		old[it.key()] = it
	}
	items := make([]*item, 0, len(rules))
	changed := false
	problem, depth, logs := l.problem, l.depth, l.logs
	l.problem = ""
	for _, w := range rules {
		if it := old[w.key()]; it != nil && it.same(w) {
			items = append(items, it)
			delete(old, w.key())
			continue
		}
		it, err := c.compile(l, w)
		if err != nil {
			l.problem = err.Error()
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
		c.order.pending[l] = struct{}{}
	}
	if l.problem != problem || l.depth != depth || l.logs != logs {
		c.resolveAgain(l)
	}
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

// compile makes the item of a rule. It returns nil without an error if the rule can match no packet.
func (c *Classifier) compile(l *list, w wantedRule) (*item, error) {
	it := &item{id: w.id, hash: c.hash(w.id), rule: w.rule, variant: w.variant, action: actionOf(w.action), list: l}
	if n := c.ruleNames[it.hash]; n != nil && !n.sameRule(w.id) {
		return nil, fmt.Errorf("rule %v has the same number as rule %v: rename one of the policies", w.id, n.id)
	}
	if !c.setConditions(it) {
		return nil, nil
	}
	c.countRule(it)
	return it, nil
}

// countRule counts an item among those that have its number. Its references to conditions are counted already.
func (c *Classifier) countRule(it *item) {
	n := c.ruleNames[it.hash]
	if n == nil {
		n = &ruleName{id: it.id}
		c.ruleNames[it.hash] = n
	}
	n.id = it.id
	n.items++
}

// sameRule compares rules without their tier: a rule's number does not depend on it.
func (n *ruleName) sameRule(id calc.RuleID) bool {
	id.Tier = n.id.Tier
	return n.id == id
}

// countCopy counts a copy of an item: for its number, and in its conditions.
func (c *Classifier) countCopy(it *item) {
	c.countRule(it)
	for _, cond := range it.conds {
		if cond != nil {
			cond.rules++
		}
	}
}

// policyRules returns the rules that the list of a policy in one direction should have.
func policyRules(p *calc.Policy, dir calc.Direction) []wantedRule {
	rules := p.Ingress
	if dir == calc.Egress {
		rules = p.Egress
	}
	out := make([]wantedRule, 0, len(rules))
	for i := range rules {
		w := wantedRule{
			id:     calc.RuleID{Policy: p.ID, Tier: p.Tier, Direction: dir, Index: i},
			rule:   &rules[i],
			action: rules[i].Action,
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

// tierEnd returns the rule after the policies of a tier: a deny, or none if the default of the tier is Pass.
func tierEnd(t calc.Tier, dir calc.Direction) []wantedRule {
	if t.Default == api.Pass && !t.Missing {
		return nil
	}
	id := calc.PolicyID{Kind: api.KindTier, Name: t.Name}
	return []wantedRule{{id: calc.RuleID{Policy: id, Tier: t.Name, Direction: dir, Index: -1}, action: api.Deny}}
}

// sameRule says whether two rules match the same packets and have the same action. It leaves out named ports: variants
// have these in their keys.
func sameRule(a, b *calc.Rule) bool {
	icmp := func(x, y *calc.ICMP) bool { return x == y || x != nil && y != nil && *x == *y }
	match := func(x, y *calc.Match) bool {
		return x.Set == y.Set && x.NotSet == y.NotSet &&
			slices.Equal(x.Nets, y.Nets) && slices.Equal(x.NotNets, y.NotNets) &&
			slices.Equal(x.Ports, y.Ports) && slices.Equal(x.NotPorts, y.NotPorts)
	}
	return a.Action == b.Action && a.Never == b.Never && a.V4 == b.V4 && a.V6 == b.V6 &&
		a.Protocol == b.Protocol && a.NotProtocol == b.NotProtocol &&
		icmp(a.ICMP, b.ICMP) && icmp(a.NotICMP, b.NotICMP) &&
		match(&a.Source, &b.Source) && match(&a.Destination, &b.Destination)
}

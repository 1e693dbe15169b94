package dataplane

import (
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// ruleNames maps the numbers that stand for rules in the kernel to the rules in force.
type ruleNames struct {
	of      map[uint64]calc.RuleID
	numbers map[calc.PolicyID][]uint64 // of the rules of a policy or profile, or of the end of a tier; sorted
	changed map[calc.PolicyID]struct{} // since planCounters last looked
}

// note remembers the policies and tiers whose rules may have changed.
func (r *ruleNames) note(d calc.Delta) {
	if r.changed == nil {
		r.changed = map[calc.PolicyID]struct{}{{Kind: calc.KindEnd}: {}}
	}
	for id := range d.Policies {
		r.changed[id] = struct{}{}
	}
	for _, id := range d.PoliciesGone {
		r.changed[id] = struct{}{}
	}
	for name := range d.Tiers {
		r.changed[tierEnd(name)] = struct{}{}
	}
	for _, name := range d.TiersGone {
		r.changed[tierEnd(name)] = struct{}{}
	}
}

func tierEnd(name string) calc.PolicyID { return calc.PolicyID{Kind: api.KindTier, Name: name} }

// planCounters asks for a counter for each rule in force, and for the ends of tiers and profiles.
func (d *Driver) planCounters() {
	r := &d.rules
	if r.of == nil {
		r.of, r.numbers = map[uint64]calc.RuleID{}, map[calc.PolicyID][]uint64{}
	}
	for id := range r.changed {
		before := r.numbers[id]
		delete(r.numbers, id)
		now := rulesOf(d.state, id)
		for _, rule := range now {
			number := rule.Hash()
			r.of[number] = rule
			r.numbers[id] = append(r.numbers[id], number)
			d.counters.Want(number, struct{}{})
		}
		slices.Sort(r.numbers[id])
		for _, number := range before {
			if _, still := slices.BinarySearch(r.numbers[id], number); !still {
				delete(r.of, number)
				d.counters.Unwant(number)
			}
		}
	}
	clear(r.changed)
}

// rulesOf returns the rules of a policy, or the end of a tier or of profiles. It returns none if it is not in force.
func rulesOf(s *calc.State, id calc.PolicyID) (rules []calc.RuleID) {
	directions := [...]calc.Direction{calc.Ingress, calc.Egress}
	switch id.Kind {
	case api.KindTier, calc.KindEnd:
		if _, there := s.Tiers[id.Name]; there || id.Kind == calc.KindEnd {
			for _, dir := range directions {
				rules = append(rules, calc.RuleID{Policy: id, Tier: id.Name, Direction: dir, Index: -1})
			}
		}
		return rules
	}
	p := s.Policies[id]
	for dir, list := range [...][]calc.Rule{p.Ingress, p.Egress} {
		for i := range list {
			rules = append(rules, calc.RuleID{Policy: id, Tier: p.Tier, Direction: directions[dir], Index: i})
		}
	}
	return rules
}

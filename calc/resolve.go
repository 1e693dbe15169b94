package calc

import (
	"fmt"
	"strings"

	"github.com/margay-project/margay/api"
)

// resolvedPolicy is a policy with its rules resolved, the sets that they name and what is wrong with them.
type resolvedPolicy struct {
	Policy
	sets     map[SetID]setSource
	ports    map[string]portUse // names of ports, on which the rules depend
	problems []string
}

// resolve makes the rules, given what names of ports stand for, and the policy as it was resolved before or nil.
func (p *policy) resolve(numbersOf func(portUse) []portNumber, before *activePolicy) resolvedPolicy {
	if p.rules[Ingress] == "" && p.rules[Egress] == "" {
		return resolvedPolicy{Policy: p.Policy}
	}
	rr := ruleReader{
		namespace: p.ID.Namespace, own: p.selects.endpoints, before: before, numbersOf: numbersOf, sets: map[SetID]setSource{}, ports: map[string]portUse{},
	}
	a := resolvedPolicy{Policy: p.Policy, sets: rr.sets, ports: rr.ports}
	a.Ingress = rr.rules(Ingress, p.rules[Ingress])
	a.Egress = rr.rules(Egress, p.rules[Egress])
	a.problems = rr.problems
	return a
}

// ruleReader turns the rules of one policy or profile into rules with resolved criteria.
//
// It collects the sets that they name. A criterion that cannot be enforced never widens access: a rule that allows
// or passes and has one never matches, any other rule matches without it, and a problem says so.
type ruleReader struct {
	namespace string        // of a namespaced policy
	own       string        // the text of the policy's selector
	before    *activePolicy // the policy as it was resolved before; nil if it was not
	numbersOf func(portUse) []portNumber
	sets      map[SetID]setSource
	ports     map[string]portUse // names that were looked up, by their text
	problems  []string
}

// rules resolves the rules of one direction. Those that stood before, at the front and at the end, are taken as they were.
func (rr *ruleReader) rules(dir Direction, rules packedRules) []Rule {
	now := rules.split()
	if now == nil {
		return nil
	}
	resolved := make([]Rule, len(now))
	before, old := rr.resolvedBefore(dir)
	front, end := alike(before, now)
	copy(resolved, old[:front])
	copy(resolved[len(now)-end:], old[len(old)-end:])
	for i, packed := range now {
		stood := i < front || i >= len(now)-end
		if !stood || !rr.reuse(&resolved[i]) {
			resolved[i] = rr.rule(dir, i, unpackRule(packed, rr.own))
		}
	}
	return resolved
}

// resolvedBefore are rules that were resolved before, packed and not.
func (rr *ruleReader) resolvedBefore(dir Direction) (packed []string, resolved []Rule) {
	if rr.before == nil || len(rr.before.problems) > 0 || rr.before.from.selects.endpoints != rr.own {
		return nil, nil
	}
	return rr.before.from.rules[dir].split(), [2][]Rule{rr.before.Ingress, rr.before.Egress}[dir]
}

// alike counts what two lists have in common at the front, and of the rest at the end.
func alike(a, b []string) (front, end int) {
	shorter := min(len(a), len(b))
	for front < shorter && a[front] == b[front] {
		front++
	}
	for end < shorter-front && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	return front, end
}

// take notes the sets of a rule as it was before, unless the rule depends on something else than its text.
func (rr *ruleReader) reuse(r *Rule) bool {
	if r.Never || r.Source.Names != nil || r.Source.NotNames != nil || r.Destination.Names != nil || r.Destination.NotNames != nil {
		return false
	}
	for _, id := range [...]SetID{r.Source.Set, r.Source.NotSet, r.Destination.Set, r.Destination.NotSet} {
		if id != "" {
			rr.sets[id] = rr.before.sets[id]
		}
	}
	return true
}

func (rr *ruleReader) rule(dir Direction, i int, r api.Rule) Rule {
	c := criteria{namespace: rr.namespace, numbersOf: rr.numbersOf}
	out := c.rule(r)
	last := &out
	if n := last.variants(); n > maxVariants {
		c.skip("its named ports expand to %d combinations, at most %d are supported: give numbers, or narrow its selectors", n, maxVariants)
		c.forgetNames(last)
	}
	for _, u := range c.ports {
		rr.ports[u.String()] = u
	}
	widens := last.Action == api.Allow || last.Action == api.Pass
	if len(c.skipped) > 0 {
		rr.problems = append(rr.problems, problemText(dir, i, last.Action, c.skipped))
	}
	if (len(c.skipped) > 0 && widens) || !(last.V4 || last.V6) {
		return Rule{Action: last.Action, Never: true}
	}
	for _, s := range c.sets {
		rr.sets[s.id()] = s
	}
	return out
}

func problemText(dir Direction, index int, action api.Action, skipped []string) string {
	effect := "until then the rule matches nothing"
	switch action {
	case api.Deny:
		effect = "until then the rule denies everything that meets its other criteria"
	case api.Log:
		effect = "until then the rule logs everything that meets its other criteria"
	}
	return fmt.Sprintf("%v rule %d: %s; %s", dir, index, strings.Join(skipped, "; "), effect)
}

// OfRule is the problem's text when it is about this rule of its object.
func (p Problem) OfRule(dir Direction, index int) (text string, about bool) {
	return strings.CutPrefix(p.Text, fmt.Sprintf("%v rule %d: ", dir, index))
}

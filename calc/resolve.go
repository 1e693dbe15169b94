package calc

import (
	"fmt"
	"strings"

	"github.com/margay-project/margay/api"
)

// resolvedPolicy is a policy with its rules resolved.
type resolvedPolicy struct {
	Policy
	sets     map[SetID]setSource // that its rules name
	ports    map[string]portUse  // named ports that its rules use, by their text
	problems []string            // of its rules
}

// resolve makes the rules of a policy. numbersOf says which ports a name stands for. before is the policy as it was resolved the last
// time, or nil: rules that did not change are taken from it.
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

// ruleReader resolves the rules of one policy or profile, and collects the sets and the named ports that they use.
//
// A criterion that cannot be enforced never widens access: a rule with Allow or Pass that has one never matches, any other rule
// matches without it, and a problem says so.
type ruleReader struct {
	namespace string        // of a NetworkPolicy; else empty
	own       string        // the policy's own selector, which packed rules refer to
	before    *activePolicy // the policy as it was resolved the last time; nil: it was not active
	numbersOf func(portUse) []portNumber
	sets      map[SetID]setSource
	ports     map[string]portUse // by their text
	problems  []string
}

// rules resolves the rules of one direction. Those at the front and at the end that did not change are taken as they were.
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
		unchanged := i < front || i >= len(now)-end
		if !unchanged || !rr.reuse(&resolved[i]) {
			resolved[i] = rr.rule(dir, i, unpackRule(packed, rr.own))
		}
	}
	return resolved
}

// resolvedBefore returns the rules as they were resolved the last time, packed and resolved; none if they had problems.
func (rr *ruleReader) resolvedBefore(dir Direction) (packed []string, resolved []Rule) {
	if rr.before == nil || len(rr.before.problems) > 0 || rr.before.from.selects.endpoints != rr.own {
		return nil, nil
	}
	return rr.before.from.rules[dir].split(), [2][]Rule{rr.before.Ingress, rr.before.Egress}[dir]
}

// alike counts the elements that two lists have in common at the front, and those of the rest at the end.
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

// reuse takes a rule as it was resolved the last time, with its sets. It reports false if the rule depends on more than its text: on
// named ports.
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

// rule resolves the rule with index i.
func (rr *ruleReader) rule(dir Direction, i int, r api.Rule) Rule {
	c := criteria{namespace: rr.namespace, numbersOf: rr.numbersOf}
	out := c.rule(r)
	if n := out.variants(); n > maxVariants {
		c.skip("its named ports expand to %d combinations, at most %d are supported: give numbers, or narrow its selectors", n, maxVariants)
		c.forgetNames(&out)
	}
	for _, u := range c.ports {
		rr.ports[u.String()] = u
	}
	widens := out.Action == api.Allow || out.Action == api.Pass
	if len(c.skipped) > 0 {
		rr.problems = append(rr.problems, problemText(dir, i, out.Action, c.skipped))
	}
	if (len(c.skipped) > 0 && widens) || !(out.V4 || out.V6) {
		return Rule{Action: out.Action, Never: true}
	}
	for _, s := range c.sets {
		rr.sets[s.id()] = s
	}
	return out
}

// problemText says which criteria of a rule are not enforced, and what the rule does until they are corrected.
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

// OfRule reports whether the problem is about one rule of its object, and returns its text without the words that say so.
func (p Problem) OfRule(dir Direction, index int) (text string, about bool) {
	return strings.CutPrefix(p.Text, fmt.Sprintf("%v rule %d: ", dir, index))
}

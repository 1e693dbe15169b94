package calc

import (
	"github.com/margay-project/margay/api"
)

// activity knows the policies, tiers and sets that are active on this node. A policy is active while an endpoint's lists name it, and a
// profile while an endpoint has it. Tiers are active while one of their policies is.
type activity struct {
	refs     map[PolicyID]int          // how many groups and endpoints make a policy active; no zeros. Set by refer
	resolved map[PolicyID]activePolicy // the active policies, as they were last handed out; set by activatePolicy
	tierRefs map[string]int            // how many active policies a tier has; no zeros. Set by referTier

	// Sums over resolved, kept by countCost; see bound.go.
	continuing int // active policies with a Log or a Pass, after which a search goes on
	slots      int // that all active policies need

	// Notes for activate, which handles and resets them.
	pending      map[PolicyID]struct{} // policies that may have become active or inactive, or that changed
	pendingTiers map[string]struct{}   // tiers that may have become active or inactive, or that changed

	// boundPending says that every endpoint must be compared with the bounds of the classifier again, because the cost of some policy
	// changed. Set by countCost, reset by checkBounds.
	boundPending bool

	policies *table[PolicyID, Policy] // as they are handed out
	tiers    *table[string, Tier]     // as they are handed out
}

// activePolicy is an active policy with its resolved rules.
type activePolicy struct {
	from *policy // the policy that was resolved
	resolvedPolicy
	cost cost
}

func newActivity() activity {
	return activity{
		refs:         map[PolicyID]int{},
		pending:      map[PolicyID]struct{}{},
		resolved:     map[PolicyID]activePolicy{},
		tierRefs:     map[string]int{},
		pendingTiers: map[string]struct{}{},
		policies:     newTable[PolicyID](Policy.equal),
		tiers:        newTable[string](same[Tier]),
	}
}

// refer adds to the number of references that make a policy active. by may be negative.
func (a *activity) refer(id PolicyID, by int) {
	a.refs[id] += by
	if a.refs[id] == 0 {
		delete(a.refs, id)
	}
	a.mark(id)
}

// mark makes a policy pending.
func (a *activity) mark(id PolicyID) { a.pending[id] = struct{}{} }

// markIfActive makes a policy pending if it is active, or was so at the last Flush. A change of any other policy concerns nobody.
func (a *activity) markIfActive(id PolicyID) {
	if _, was := a.resolved[id]; was || a.refs[id] > 0 {
		a.mark(id)
	}
}

// activate handles the pending policies and tiers: those that have become active enter the State, with the sets that they name, and
// those that are no longer active leave it.
func (g *Graph) activate() {
	a := &g.active
	renumbered := g.withOtherPorts()
	for id := range a.pending {
		_, again := renumbered[id]
		g.activatePolicy(id, again)
	}
	a.pending = emptied(a.pending)
	g.entities.pendingPorts = emptied(g.entities.pendingPorts) // resolving also notes names that are new; these are up to date
	for name := range a.pendingTiers {
		if a.tierRefs[name] > 0 {
			a.tiers.set(name, tierNamed(g.tiers, name))
		} else {
			a.tiers.remove(name)
		}
		g.problems.only(noTier(name), a.tierRefs[name] > 0 && a.tiers.now[name].Missing)
	}
	a.pendingTiers = emptied(a.pendingTiers)
}

// withOtherPorts returns the active policies whose rules use a named port that now stands for other numbers, and makes them pending.
func (g *Graph) withOtherPorts() map[PolicyID]struct{} {
	policies := map[PolicyID]struct{}{}
	for p := range g.entities.pendingPorts {
		for id := range p.policies {
			policies[id] = struct{}{}
			g.active.mark(id)
		}
		p.policies = emptied(p.policies) // countReferences enters the policies that still use the name
	}
	g.entities.pendingPorts = emptied(g.entities.pendingPorts)
	return policies
}

// activatePolicy brings one policy up to date. again says that its rules must be resolved again although it has not changed.
func (g *Graph) activatePolicy(id PolicyID, again bool) {
	a := &g.active
	old, was := a.resolved[id]
	var now *policy
	if a.refs[id] > 0 {
		now = g.policyNamed(id)
	}
	switch {
	case now == nil:
		g.deactivate(id)
		delete(a.resolved, id)
		a.policies.remove(id)
		g.problems.set(id.key(), "rules")
	case was && now == old.from && !again:
		return
	default:
		var before *activePolicy
		if was {
			before = &old
		}
		resolved := now.resolve(g.entities.numbersOf, before)
		a.resolved[id] = activePolicy{now, resolved, costOf(resolved.Policy)}
		a.policies.set(id, resolved.Policy)
		g.problems.set(id.key(), "rules", resolved.problems...)
	}
	g.countReferences(a.resolved[id].resolvedPolicy, old.resolvedPolicy)
	a.countCost(old.cost, a.resolved[id].cost)
	if id.Kind == api.KindProfile {
		g.problems.only(noProfile(id.Name), now != nil && !g.entities.profiles.exists(id.Name))
	}
}

// policyNamed is a policy, a profile or a failsafe as it was read. It is nil if there is no such policy; a profile that does not
// exist denies everything.
func (g *Graph) policyNamed(id PolicyID) *policy {
	switch id.Kind {
	case KindFailsafe:
		return g.failsafes[id]
	case api.KindProfile:
		return g.entities.profiles.policy(id.Name)
	}
	if k := g.policies[printOf(g.prints, id.key())]; k != nil {
		return k.policy()
	}
	return nil
}

// deactivate leaves a policy that is no longer active only packed.
func (g *Graph) deactivate(id PolicyID) {
	if id.Kind == api.KindProfile {
		g.entities.profiles.forget(id.Name)
	} else if k := g.policies[printOf(g.prints, id.key())]; k != nil {
		k.pack()
	}
}

// countReferences makes a policy refer to its tier, its sets and its named ports, instead of those that it had before. The counts of
// sets that it had before and still has are not touched: a long policy has many, and a change of one rule concerns few.
func (g *Graph) countReferences(now, old resolvedPolicy) {
	g.active.referTier(now.Tier, 1)
	g.active.referTier(old.Tier, -1)
	for _, u := range now.ports {
		g.entities.usePort(u, now.ID, 1)
	}
	for _, u := range old.ports {
		g.entities.usePort(u, old.ID, -1)
	}
	for id, s := range now.sets {
		if _, had := old.sets[id]; !had {
			g.entities.use(id, s, 1)
		}
	}
	for id, s := range old.sets {
		if _, has := now.sets[id]; !has {
			g.entities.use(id, s, -1)
		}
	}
}

// referTier adds to the number of active policies of a tier. A profile has no tier.
func (a *activity) referTier(tier string, by int) {
	if tier == "" {
		return
	}
	if a.tierRefs[tier] += by; a.tierRefs[tier] == 0 {
		delete(a.tierRefs, tier)
	}
	a.pendingTiers[tier] = struct{}{}
}

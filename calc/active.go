package calc

import (
	"github.com/margay-project/margay/api"
)

// activity is which policies, profiles and failsafes are in use, and with them which tiers.
type activity struct {
	refs         map[PolicyID]int
	pending      map[PolicyID]struct{}
	resolved     map[PolicyID]activePolicy // as it was last handed out
	continuing   int                       // how many of these may make a search go on
	slots        int                       // that all of these need
	tierRefs     map[string]int
	pendingTiers map[string]struct{} // tiers that may have changed

	// Since it was last looked at: the searchCost of a policy is another, or so is one's share of slots that are too few.
	boundPending bool

	policies *table[PolicyID, Policy]
	tiers    *table[string, Tier]
}

// inUse is a policy in use and what it was resolved from.
type activePolicy struct {
	from *policy
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

// use counts users of a policy.
func (a *activity) refer(id PolicyID, by int) {
	a.refs[id] += by
	if a.refs[id] == 0 {
		delete(a.refs, id)
	}
	a.mark(id)
}

// touch says that a policy may have changed.
func (a *activity) mark(id PolicyID) { a.pending[id] = struct{}{} }

// markIfActive says that a policy may have changed, which matters only if it is in use or was.
func (a *activity) markIfActive(id PolicyID) {
	if _, was := a.resolved[id]; was || a.refs[id] > 0 {
		a.mark(id)
	}
}

// activate puts policies that came into use into the state, with the sets that they name, and takes out those that
// went out of use.
func (g *Graph) activate() {
	a := &g.active
	withOtherPorts := g.withOtherPorts()
	for id := range a.pending {
		_, anew := withOtherPorts[id]
		g.activatePolicy(id, anew)
	}
	a.pending = emptied(a.pending)
	g.entities.pendingPorts = emptied(g.entities.pendingPorts) // by names that came into use only now
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

// withOtherPorts are the policies whose rules have names of ports that now stand for others.
func (g *Graph) withOtherPorts() map[PolicyID]struct{} {
	policies := map[PolicyID]struct{}{}
	for p := range g.entities.pendingPorts {
		for id := range p.policies {
			policies[id] = struct{}{}
			g.active.mark(id)
		}
		p.policies = emptied(p.policies) // those that still use the name say so again
	}
	g.entities.pendingPorts = emptied(g.entities.pendingPorts)
	return policies
}

// activatePolicy brings a policy up to date; anew says that its rules must be resolved although it has not changed.
func (g *Graph) activatePolicy(id PolicyID, anew bool) {
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
	case was && now == old.from && !anew:
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

// forget keeps a policy that is not in use any more only packed.
func (g *Graph) deactivate(id PolicyID) {
	if id.Kind == api.KindProfile {
		g.entities.profiles.forget(id.Name)
	} else if k := g.policies[printOf(g.prints, id.key())]; k != nil {
		k.pack()
	}
}

// countReferences counts a policy as a user of its tier and its sets, and not of those that it had. Sets that it keeps are not
// looked at: a long policy has many, and a change of it concerns few.
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

// referTier counts policies of a tier.
func (a *activity) referTier(tier string, by int) {
	if tier == "" {
		return
	}
	if a.tierRefs[tier] += by; a.tierRefs[tier] == 0 {
		delete(a.tierRefs, tier)
	}
	a.pendingTiers[tier] = struct{}{}
}

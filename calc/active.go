package calc

import (
	"github.com/margay-project/margay/api"
)

// activity is which policies, profiles and failsafes are in use, and with them which tiers.
type activity struct {
	users    map[PolicyID]int
	touched  map[PolicyID]struct{}
	current  map[PolicyID]inUse // as it was last handed out
	noisy    int                // how many of these may make a search go on
	slots    int                // that all of these need
	inTier   map[string]int
	tierSeen map[string]struct{} // tiers that may have changed

	// Since it was last looked at: the noise of a policy is another, or so is one's share of slots that are too few.
	burdenChanged bool

	policies *table[PolicyID, Policy]
	tiers    *table[string, Tier]
}

// inUse is a policy in use and what it was resolved from.
type inUse struct {
	from *policy
	active
	burden burden
}

func newActivity() activity {
	return activity{
		users:    map[PolicyID]int{},
		touched:  map[PolicyID]struct{}{},
		current:  map[PolicyID]inUse{},
		inTier:   map[string]int{},
		tierSeen: map[string]struct{}{},
		policies: newTable[PolicyID](Policy.equal),
		tiers:    newTable[string](same[Tier]),
	}
}

// use counts users of a policy.
func (a *activity) use(id PolicyID, by int) {
	a.users[id] += by
	if a.users[id] == 0 {
		delete(a.users, id)
	}
	a.touch(id)
}

// touch says that a policy may have changed.
func (a *activity) touch(id PolicyID) { a.touched[id] = struct{}{} }

// touchInUse says that a policy may have changed, which matters only if it is in use or was.
func (a *activity) touchInUse(id PolicyID) {
	if _, was := a.current[id]; was || a.users[id] > 0 {
		a.touch(id)
	}
}

// activate puts policies that came into use into the state, with the sets that they name, and takes out those that
// went out of use.
func (g *Graph) activate() {
	a := &g.active
	outdated := g.outdated()
	for id := range a.touched {
		_, anew := outdated[id]
		g.activatePolicy(id, anew)
	}
	a.touched = emptied(a.touched)
	g.things.renamed = emptied(g.things.renamed) // by names that came into use only now
	for name := range a.tierSeen {
		if a.inTier[name] > 0 {
			a.tiers.set(name, tierNamed(g.tiers, name))
		} else {
			a.tiers.remove(name)
		}
		g.problems.only(noTier(name), a.inTier[name] > 0 && a.tiers.now[name].Missing)
	}
	a.tierSeen = emptied(a.tierSeen)
}

// outdated are the policies whose rules have names of ports that now stand for others.
func (g *Graph) outdated() map[PolicyID]struct{} {
	policies := map[PolicyID]struct{}{}
	for p := range g.things.renamed {
		for id := range p.users {
			policies[id] = struct{}{}
			g.active.touch(id)
		}
		p.users = emptied(p.users) // those that still use the name say so again
	}
	g.things.renamed = emptied(g.things.renamed)
	return policies
}

// activatePolicy brings a policy up to date; anew says that its rules must be resolved although it has not changed.
func (g *Graph) activatePolicy(id PolicyID, anew bool) {
	a := &g.active
	old, was := a.current[id]
	var now *policy
	if a.users[id] > 0 {
		now = g.policyNamed(id)
	}
	switch {
	case now == nil:
		g.forget(id)
		delete(a.current, id)
		a.policies.remove(id)
		g.problems.set(id.key(), "rules")
	case was && now == old.from && !anew:
		return
	default:
		var before *inUse
		if was {
			before = &old
		}
		resolved := now.resolve(g.things.numbersOf, before)
		a.current[id] = inUse{now, resolved, burdenOf(resolved.Policy)}
		a.policies.set(id, resolved.Policy)
		g.problems.set(id.key(), "rules", resolved.problems...)
	}
	g.engage(a.current[id].active, old.active)
	a.weigh(old.burden, a.current[id].burden)
	if id.Kind == api.KindProfile {
		g.problems.only(noProfile(id.Name), now != nil && !g.things.profiles.exists(id.Name))
	}
}

func (g *Graph) policyNamed(id PolicyID) *policy {
	switch id.Kind {
	case KindFailsafe:
		return g.failsafes[id]
	case api.KindProfile:
		return g.things.profiles.policy(id.Name)
	}
	if k := g.policies[printOf(g.prints, id.key())]; k != nil {
		return k.policy()
	}
	return nil
}

// forget keeps a policy that is not in use any more only packed.
func (g *Graph) forget(id PolicyID) {
	if id.Kind == api.KindProfile {
		g.things.profiles.forget(id.Name)
	} else if k := g.policies[printOf(g.prints, id.key())]; k != nil {
		k.pack()
	}
}

// engage counts a policy as a user of its tier and its sets, and not of those that it had. Sets that it keeps are not
// looked at: a long policy has many, and a change of it concerns few.
func (g *Graph) engage(now, old active) {
	g.active.inhabit(now.Tier, 1)
	g.active.inhabit(old.Tier, -1)
	for _, u := range now.ports {
		g.things.usePort(u, now.ID, 1)
	}
	for _, u := range old.ports {
		g.things.usePort(u, old.ID, -1)
	}
	for id, s := range now.sets {
		if _, had := old.sets[id]; !had {
			g.things.use(id, s, 1)
		}
	}
	for id, s := range old.sets {
		if _, has := now.sets[id]; !has {
			g.things.use(id, s, -1)
		}
	}
}

// inhabit counts policies of a tier.
func (a *activity) inhabit(tier string, by int) {
	if tier == "" {
		return
	}
	if a.inTier[tier] += by; a.inTier[tier] == 0 {
		delete(a.inTier, tier)
	}
	a.tierSeen[tier] = struct{}{}
}

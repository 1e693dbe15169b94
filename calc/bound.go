package calc

import (
	"fmt"
	"slices"

	"github.com/margay-project/margay/api"
)

// The classifier has bounds that an endpoint's policies alone can be beyond. The search in the kernel goes on after a Log
// and, in the next tier, after a Pass, but not for ever: MaxContinuations. There is room for so many rules: MaxSlots.

// cost is what a policy asks of the classifier, by direction.
type cost struct {
	searchCost
	slots [2]int
}

// searchCost is how often a policy's rules may make a search go on, by direction.
type searchCost struct {
	logs  [2]int
	depth [2]int // up to and with the last Pass; 0: there is none
}

func (b cost) total() int { return b.slots[Ingress] + b.slots[Egress] }

func costOf(p Policy) (b cost) {
	for dir, rules := range [2][]Rule{p.Ingress, p.Egress} {
		for i := range rules {
			r := &rules[i]
			if r.Never || r.variants() == 0 {
				continue
			}
			b.slots[dir] += r.variants()
			switch r.Action {
			case api.Pass:
				b.depth[dir] = b.logs[dir] + 1
			case api.Log:
				b.logs[dir]++
			}
		}
	}
	return b
}

// excess is why an endpoint's policies may not judge it, and what to do; the zero excess is none.
type excess struct{ why, remedy string }

// excessOf finds whether a search through policies at one stage may go on too often, or whether they have more rules than
// there is room for.
func excessOf(lists *[Stages][2][]TierPolicies, profiles []string, costOf func(PolicyID) cost) excess {
	slots := 0
	for dir := range Egress + 1 {
		counted := map[PolicyID]bool{}
		count := func(id PolicyID) cost {
			b := costOf(id)
			if !counted[id] {
				counted[id] = true
				slots += b.slots[dir]
			}
			return b
		}
		for stage := range lists {
			var search Continuations
			for _, tier := range lists[stage][dir] {
				for _, id := range tier.Policies {
					b := count(id)
					search.AddPolicy(b.logs[dir], b.depth[dir])
				}
				search.EndTier()
			}
			if Stage(stage) == Normal {
				for i, name := range profiles {
					if b := count(PolicyID{Kind: api.KindProfile, Name: name}); !slices.Contains(profiles[:i], name) {
						search.AddPolicy(b.logs[dir], 0) // a Pass in a profile denies
					}
				}
			}
			if n := search.Most(); n > MaxContinuations {
				return excess{
					fmt.Sprintf("its %v %v policies may pass on or log a packet %d times, at most %d are supported",
						Stage(stage), dir, n, MaxContinuations),
					"use fewer rules with the actions Log and Pass",
				}
			}
		}
	}
	if slots > MaxSlots {
		return excess{
			fmt.Sprintf("its policies have %d rules, at most %d are supported", slots, MaxSlots),
			"put addresses and ports that are treated alike into one rule",
		}
	}
	return excess{}
}

// Continuations counts how often the search through one stage and direction may go on, at most. It is told of the policies in
// the order of evaluation. The zero value is a search through no policy.
type Continuations struct {
	ended       int // in the tiers before
	logs, depth int // in the tier so far: all Logs, and those up to and with the last Pass
}

// AddPolicy adds the next policy of the tier. logs is how many of its rules log. depth is how many log or pass, up to and with
// the last rule that passes on to the next tier, where only that one is counted of those that pass; 0: none passes on.
func (c *Continuations) AddPolicy(logs, depth int) {
	if depth > 0 {
		c.depth = c.logs + depth
	}
	c.logs += logs
}

// EndTier says that the policies that follow are in another tier.
func (c *Continuations) EndTier() { *c = Continuations{ended: c.Most()} }

// Most is how often the search goes on at most: in each tier for all Logs, or for those before the last Pass and that Pass. To
// be compared with MaxContinuations.
func (c Continuations) Most() int { return c.ended + max(c.logs, c.depth) }

// problem is what is said of an endpoint that is closed for its policies' excess.
func (e excess) problem() string {
	if e == (excess{}) {
		return ""
	}
	return e.why + ", so it is closed: " + e.remedy
}

// bound closes the endpoints whose policies are in excess.
func (c *computation) bound() {
	for id, e := range c.state.Endpoints {
		found := excessOf(&e.Policies, e.Profiles, func(id PolicyID) cost { return costOf(c.state.Policies[id]) })
		if found == (excess{}) {
			continue
		}
		e.close(found.why)
		c.state.Endpoints[id] = e
		c.note(id.key(), found.problem())
	}
}

// bound closes the endpoints whose policies have come to be in excess, and opens those that are not any more. It looks at
// those that changed themselves, and at all if a policy has changed that can have to do with it.
func (g *Graph) bound(changed map[EndpointID]struct{}) {
	l := &g.local
	full := g.active.slots > MaxSlots
	if g.active.continuing == 0 && !full && !g.active.boundPending {
		return
	}
	if g.active.boundPending {
		changed = map[EndpointID]struct{}{}
		for id := range l.endpoints {
			changed[id] = struct{}{}
		}
	}
	byGroup := map[*group]excess{} // of endpoints whose profiles have no part in it
	for id := range changed {
		n := l.endpoints[id]
		if n == nil || n.refused {
			continue
		}
		var now excess
		if n.effective.Closed == "" {
			now = g.excessOf(n, byGroup)
		}
		if now.why == n.excess {
			continue
		}
		n.excess = now.why
		g.problems.set(id.key(), "bound", now.problem())
		g.unroute(l.sent.now[id])
		e := n.published()
		l.sent.set(id, e)
		g.route(e, g.routes.set, g.paths.set)
	}
	g.active.boundPending = false
}

func (g *Graph) excessOf(n *local, byGroup map[*group]excess) excess {
	costOf := func(id PolicyID) cost { return g.active.resolved[id].cost }
	for _, name := range n.effective.Profiles {
		profile := costOf(PolicyID{Kind: api.KindProfile, Name: name})
		if profile.searchCost != (searchCost{}) || profile.total() > 0 && g.active.slots > MaxSlots {
			return excessOf(&n.group.lists, n.effective.Profiles, costOf)
		}
	}
	found, known := byGroup[n.group]
	if !known {
		found = excessOf(&n.group.lists, nil, costOf)
		byGroup[n.group] = found
	}
	return found
}

// countCost keeps account of what policies ask of the classifier.
func (a *activity) countCost(old, now cost) {
	full := a.slots > MaxSlots
	a.slots += now.total() - old.total()
	if old.searchCost != now.searchCost || full || a.slots > MaxSlots {
		a.boundPending = true
	}
	if old.searchCost != (searchCost{}) {
		a.continuing--
	}
	if now.searchCost != (searchCost{}) {
		a.continuing++
	}
}

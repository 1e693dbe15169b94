package calc

import (
	"fmt"
	"slices"

	"github.com/margay-project/margay/api"
)

// The classifier has two bounds that the policies of a single endpoint can exceed. The search in the kernel goes on after a Log and,
// with the next tier, after a Pass, at most MaxContinuations times. And it has room for MaxSlots rules. An endpoint that exceeds a bound
// is closed, so that other endpoints are not affected.

// cost counts the share of an active policy in each of the classifier's bounds.
type cost struct {
	searchCost
	slots [2]int // by direction; a rule needs one for each combination of its named ports
}

// searchCost is how often a policy's rules may make a search go on, by direction, as Continuations.AddPolicy wants it.
type searchCost struct {
	logs  [2]int // how many Logs it has
	depth [2]int // how many Logs it has before its last Pass, plus 1 for that Pass; 0: no Pass
}

func (b cost) total() int { return b.slots[Ingress] + b.slots[Egress] }

// costOf counts the rules of a policy that can match.
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

// excess says which bound an endpoint's policies exceed, and what to do. The zero excess is none.
type excess struct{ why, remedy string }

// compareBounds compares an endpoint's lists of policies and its profiles with both bounds.
func compareBounds(lists *[Stages][2][]TierPolicies, profiles []string, policyCost func(PolicyID) cost) excess {
	slots := 0
	for dir := range Egress + 1 {
		counted := map[PolicyID]bool{}
		count := func(id PolicyID) cost {
			b := policyCost(id)
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

// Continuations counts how often the search through one stage and direction may go on, at most. Its user adds the policies in
// the order of evaluation. The zero value is a search through no policy.
type Continuations struct {
	ended int // how often in the tiers before
	logs  int // the Logs of this tier so far
	depth int // the Logs of this tier before its last Pass so far, plus 1 for that Pass; 0: no Pass
}

// AddPolicy adds the next policy of the tier. logs is the number of its Logs. depth is the number of its Logs before its last Pass,
// plus 1 for that Pass; 0: no Pass.
func (c *Continuations) AddPolicy(logs, depth int) {
	if depth > 0 {
		c.depth = c.logs + depth
	}
	c.logs += logs
}

// EndTier says that the policies that follow are in another tier.
func (c *Continuations) EndTier() { *c = Continuations{ended: c.Most()} }

// Most is how often the search goes on at most. In each tier it meets either all Logs and no Pass, or at most the Logs before the last
// Pass and that Pass. Callers compare it with MaxContinuations.
func (c Continuations) Most() int { return c.ended + max(c.logs, c.depth) }

// problem is the problem of an endpoint that is closed because of its policies' excess; empty if there is none.
func (e excess) problem() string {
	if e == (excess{}) {
		return ""
	}
	return e.why + ", so it is closed: " + e.remedy
}

// closeExcess closes the endpoints whose policies exceed a bound.
func (c *computation) closeExcess() {
	for id, e := range c.state.Endpoints {
		found := compareBounds(&e.Policies, e.Profiles, func(id PolicyID) cost { return costOf(c.state.Policies[id]) })
		if found == (excess{}) {
			continue
		}
		e.close(found.why)
		c.state.Endpoints[id] = e
		c.note(id.key(), found.problem())
	}
}

// checkBounds closes the endpoints whose policies now exceed a bound, and opens those whose policies no longer do. It checks the endpoints in
// changed, or every endpoint if a policy's cost changed.
func (g *Graph) checkBounds(changed map[EndpointID]struct{}) {
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
	byGroup := map[*group]excess{} // shared by the endpoints whose profiles cost nothing
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
		g.unlocate(l.sent.now[id])
		e := n.published()
		l.sent.set(id, e)
		g.locate(e)
	}
	g.active.boundPending = false
}

// excessOf compares an endpoint's policies with the bounds. Endpoints of a group whose profiles cost nothing share the result.
func (g *Graph) excessOf(n *local, byGroup map[*group]excess) excess {
	policyCost := func(id PolicyID) cost { return g.active.resolved[id].cost }
	for _, name := range n.effective.Profiles {
		profile := policyCost(PolicyID{Kind: api.KindProfile, Name: name})
		if profile.searchCost != (searchCost{}) || profile.total() > 0 && g.active.slots > MaxSlots {
			return compareBounds(&n.group.lists, n.effective.Profiles, policyCost)
		}
	}
	found, known := byGroup[n.group]
	if !known {
		found = compareBounds(&n.group.lists, nil, policyCost)
		byGroup[n.group] = found
	}
	return found
}

// countCost replaces the cost of a policy in the sums over all active policies. Endpoints must be checked again if the policy's
// search cost changed, or if there are too many slots now or were so before.
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

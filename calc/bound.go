package calc

import (
	"fmt"
	"slices"

	"github.com/margay-project/margay/api"
)

// The search in the kernel goes on after a Log and, in the next tier, after a Pass, but not for ever: MaxContinuations.

// noise is how often a policy's rules may make a search go on, by direction.
type noise struct {
	logs  [2]int
	depth [2]int // up to and with the last Pass; 0: there is none
}

func noiseOf(p Policy) (n noise) {
	for dir, rules := range [2][]Rule{p.Ingress, p.Egress} {
		for i := range rules {
			switch r := &rules[i]; {
			case r.Never || r.variants() == 0:
			case r.Action == api.Pass:
				n.depth[dir] = n.logs[dir] + 1
			case r.Action == api.Log:
				n.logs[dir]++
			}
		}
	}
	return n
}

// excess says why an endpoint's policies may not judge it: a search through them at one stage may go on too often.
func excess(lists *[Stages][2][]TierPolicies, profiles []string, noiseOf func(PolicyID) noise) string {
	for stage := range lists {
		for dir := range lists[stage] {
			n := 0
			for _, tier := range lists[stage][dir] {
				n += tier.continuations(dir, noiseOf)
			}
			if Stage(stage) == Normal {
				for i, name := range profiles {
					if !slices.Contains(profiles[:i], name) {
						n += noiseOf(PolicyID{Kind: KindProfile, Name: name}).logs[dir] // a Pass in a profile denies
					}
				}
			}
			if n > MaxContinuations {
				return fmt.Sprintf("a packet may be passed on or logged %d times by its %v %v policies, more than %d",
					n, Stage(stage), Direction(dir), MaxContinuations)
			}
		}
	}
	return ""
}

func (t TierPolicies) continuations(dir int, noiseOf func(PolicyID) noise) int {
	logs, depth := 0, 0
	for _, id := range t.Policies {
		n := noiseOf(id)
		if n.depth[dir] > 0 {
			depth = logs + n.depth[dir]
		}
		logs += n.logs[dir]
	}
	return max(logs, depth)
}

// exceeding is the problem of an endpoint that is closed for its policies' excess.
func exceeding(why string) string {
	if why == "" {
		return ""
	}
	return why + ", so it is closed: use fewer rules with the actions Log and Pass"
}

// bound closes the endpoints whose policies are in excess.
func (c *computation) bound() {
	for id, e := range c.state.Endpoints {
		why := excess(&e.Policies, e.Profiles, func(id PolicyID) noise { return noiseOf(c.state.Policies[id]) })
		if why == "" {
			continue
		}
		e.close(why)
		c.state.Endpoints[id] = e
		c.note(id.key(), exceeding(why))
	}
}

// bound closes the endpoints whose policies have come to be in excess, and opens those that are not any more. It looks at
// those that changed themselves, and at all if a policy that may make a search go on has changed.
func (g *Graph) bound(changed map[EndpointID]struct{}) {
	l := &g.local
	if g.active.noisy == 0 && !g.active.noiseChanged {
		return
	}
	if g.active.noiseChanged {
		changed = map[EndpointID]struct{}{}
		for id := range l.endpoints {
			changed[id] = struct{}{}
		}
	}
	byGroup := map[*group]string{} // of endpoints without profiles that log
	for id := range changed {
		n := l.endpoints[id]
		if n == nil || n.refused {
			continue
		}
		why := ""
		if n.settled.Closed == "" {
			why = g.excessOf(n, byGroup)
		}
		if why == n.excess {
			continue
		}
		n.excess = why
		g.problems.set(id.key(), "bound", exceeding(why))
		g.unroute(l.sent.now[id])
		e := n.present()
		l.sent.set(id, e)
		g.route(e, g.routes.set, g.paths.set)
	}
	g.active.noiseChanged = false
}

func (g *Graph) excessOf(n *local, byGroup map[*group]string) string {
	noiseOf := func(id PolicyID) noise { return g.active.current[id].noise }
	for _, name := range n.settled.Profiles {
		if noiseOf(PolicyID{Kind: KindProfile, Name: name}) != (noise{}) {
			return excess(&n.group.lists, n.settled.Profiles, noiseOf)
		}
	}
	why, known := byGroup[n.group]
	if !known {
		why = excess(&n.group.lists, nil, noiseOf)
		byGroup[n.group] = why
	}
	return why
}

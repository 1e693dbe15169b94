package classifier

import (
	"fmt"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// endpoint is a local endpoint with the masks that it should have, has, and may have.
type endpoint struct {
	calc.Endpoint                         // as the last Delta had it; set by setEndpoint
	rulesets      [layout.Stages]*ruleset // set by attach; nil: no policy at this stage
	profiles      *profileList            // set by resolve, with one reference; nil once the endpoint is gone
	closed        string                  // why it is closed, by calc or by resolve; empty: it is not

	// Masks, each set with a reference. propose sets proposed; Sweep moves it to committed, or to uncertain if the write failed.
	committed *maskSet   // on every interface, if no write failed since; nil: there never were any
	proposed  *maskSet   // only between Apply and Sweep
	uncertain []*maskSet // some interface may have one of these. A write that succeeds ends all of them
}

// resolve finds the rulesets that judge an endpoint now. An endpoint with a problem is closed: it gets the rulesets of
// its failsafes.
func (c *Classifier) resolve(e *endpoint) {
	delete(c.closed, e)
	c.pendingEndpoints[e] = struct{}{}
	old, names := e.profiles, e.Profiles
	e.closed = e.Closed
	if e.closed != "" {
		names = nil
	}
	e.profiles = c.acquireProfiles(names)
	rulesets, problem := c.rulesetsOf(e)
	if problem != "" {
		e.closed = problem
		c.closed[e] = struct{}{}
	}
	if e.closed != "" {
		c.releaseProfiles(e.profiles)
		e.profiles = c.acquireProfiles(nil)
		rulesets = c.closedRulesets(e)
	}
	for stage, s := range rulesets {
		c.attach(e, stage, s)
		if e.closed == "" {
			c.lastResolved[stage] = e
		}
	}
	c.releaseProfiles(old)
}

// rulesetsOf returns an endpoint's rulesets by kernel stage, or the problem for which it must be closed.
func (c *Classifier) rulesetsOf(e *endpoint) (rulesets [layout.Stages]*ruleset, problem string) {
	for _, name := range e.profiles.names {
		if c.policies[calc.PolicyID{Kind: api.KindProfile, Name: name}] == nil {
			return rulesets, fmt.Sprintf("profile %s is not known", name)
		}
	}
	for i := range rulesets {
		if like := c.lastResolved[i]; like != nil && like.profiles == e.profiles && samePolicies(like, e, i) {
			rulesets[i] = like.rulesets[i]
			continue
		}
		lists, problem := c.listsOf(e, i)
		if problem != "" {
			return rulesets, problem
		}
		rulesets[i] = c.rulesetOf(lists)
		if s := rulesets[i]; s != nil && s.problem != "" {
			return rulesets, s.problem
		}
	}
	return rulesets, ""
}

// samePolicies says whether two endpoints have the same policies, in the same order, at a kernel stage.
func samePolicies(a, b *endpoint, i int) bool {
	s := stages[i]
	return slices.EqualFunc(a.Policies[s.stage][s.dir], b.Policies[s.stage][s.dir],
		func(x, y calc.TierPolicies) bool { return x.Tier == y.Tier && slices.Equal(x.Policies, y.Policies) })
}

// listsOf returns the lists that judge an endpoint at a kernel stage: of its policies, the end of each tier, and its
// profiles. The slice is valid until the next call.
func (c *Classifier) listsOf(e *endpoint, i int) (lists []*list, problem string) {
	s := stages[i]
	out := c.lists[:0]
	for _, t := range e.Policies[s.stage][s.dir] {
		for _, id := range t.Policies {
			p := c.policies[id]
			if p == nil || p.lists[s.dir] == nil {
				return nil, fmt.Sprintf("%s %s is not known", strings.ToLower(id.Kind), id.Name)
			}
			out = append(out, p.lists[s.dir])
		}
		if t.Tier != "" && len(t.Policies) > 0 && (s.stage == calc.Normal || s.stage == calc.Forward) {
			out = append(out, c.tierNamed(t.Tier).ends[s.dir])
		}
	}
	if s.stage == calc.Normal {
		out = append(out, e.profiles.lists[s.dir])
	}
	c.lists = out
	return out, ""
}

// closedRulesets are those of a closed endpoint: its failsafes, and an empty list of profiles, which denies the rest.
func (c *Classifier) closedRulesets(e *endpoint) (rulesets [layout.Stages]*ruleset) {
	for i, s := range stages {
		var lists []*list
		for _, t := range e.Policies[s.stage][s.dir] {
			if t.Tier != "" {
				continue
			}
			for _, id := range t.Policies {
				if p := c.policies[id]; p != nil && p.lists[s.dir] != nil && p.lists[s.dir].problem == "" {
					lists = append(lists, p.lists[s.dir])
				}
			}
		}
		if s.stage == calc.Normal || s.stage == calc.Forward {
			lists = append(lists, e.profiles.lists[s.dir])
		}
		rulesets[i] = c.rulesetOf(lists)
	}
	return rulesets
}

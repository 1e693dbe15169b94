package calc

import (
	"slices"

	"github.com/margay-project/margay/api"
)

// Survey answers questions about the effect of a datastore's objects on the endpoints of every node, before any node acts on them. It
// knows only the objects that it is given: a question about the policies of an endpoint needs every policy, tier and the endpoint's
// profiles; one about the members of a selector needs every endpoint, network set and profile. Like Compute it loops over all objects.
type Survey struct {
	c        *computation
	policies map[PolicyID]*policy
	lists    map[api.Key][2][]TierPolicies // answers of policiesOf, by endpoint
	sums     map[PolicyID]*[2]api.Sum      // answers of sum
	matched  map[string][]api.Key          // answers of unaddressed, by selector
}

// NewSurvey reads the objects. Of several updates of one object the last counts.
func NewSurvey(updates []api.Update) *Survey {
	c := &computation{objects: objects{}, state: newState()}
	for _, u := range updates {
		c.objects.put(u)
	}
	c.readPolicies()
	c.readEntities()
	s := &Survey{c: c, policies: map[PolicyID]*policy{}, lists: map[api.Key][2][]TierPolicies{}, sums: map[PolicyID]*[2]api.Sum{}, matched: map[string][]api.Key{}}
	for _, p := range c.policies {
		s.policies[p.ID] = p
	}
	return s
}

// Unjudged returns the directions in which no policy selects an endpoint, for its own traffic. Without a profile everything is denied
// there.
func (s *Survey) Unjudged(endpoint api.Key) (dirs []Direction) {
	if _, known := s.c.entities[endpoint]; !known {
		return nil
	}
	for dir, tiers := range s.policiesOf(endpoint) {
		if len(tiers) == 0 {
			dirs = append(dirs, Direction(dir))
		}
	}
	return dirs
}

// policiesOf returns the policies that select an endpoint, at the stage Normal, by direction and tier.
func (s *Survey) policiesOf(endpoint api.Key) [2][]TierPolicies {
	tiers, known := s.lists[endpoint]
	if !known {
		tiers = lists(api.KindWorkloadEndpoint, s.c.selecting(s.c.entities[endpoint].labels))[Normal] // without the failsafes of hosts
		s.lists[endpoint] = tiers
	}
	return tiers
}

// CutOff returns the endpoints that a policy cuts off in a direction: it selects them, so all that its rules do not decide is denied at the
// end of its tier, and no other policy of the tier allows anything, or has a rule that denies on purpose. selected is how many
// endpoints the policy selects in all.
func (s *Survey) CutOff(policy api.Key, dir Direction) (cut []api.Key, selected int) {
	p := s.policies[PolicyID{Kind: policy.Kind, Namespace: policy.Namespace, Name: policy.Name}]
	if p == nil || !p.stages[Normal][dir] {
		return nil, 0
	}
	for key, t := range s.c.entities {
		if key.Kind != api.KindWorkloadEndpoint && key.Kind != api.KindHostEndpoint || !p.selector.Matches(t.labels) {
			continue
		}
		selected++
		if s.endsIn(p, s.policiesOf(key)[dir], dir) {
			cut = append(cut, key)
		}
	}
	slices.SortFunc(cut, compareKeys)
	return cut, selected
}

// endsIn reports whether traffic that p does not decide is denied at the end of p's tier, and would not be without p.
func (s *Survey) endsIn(p *policy, tiers []TierPolicies, dir Direction) bool {
	if _, decided := s.decidedBefore(p, tiers, dir); decided {
		return false
	}
	for _, tier := range tiers {
		if tier.Tier == p.Tier {
			return tierNamed(s.c.tiers, tier.Tier).Default != api.Pass && !slices.ContainsFunc(tier.Policies, func(id PolicyID) bool {
				sum := s.sum(id)[dir]
				return id != p.ID && (sum.Opens || sum.OnPurpose())
			})
		}
	}
	return false
}

// decidedBefore reports whether no traffic reaches p, and which policy or end of a tier decides it all.
func (s *Survey) decidedBefore(p *policy, tiers []TierPolicies, dir Direction) (by PolicyID, decided bool) {
	for _, tier := range tiers {
		own, passes := tier.Tier == p.Tier, false // by a rule
		by = PolicyID{Kind: api.KindTier, Name: tier.Tier}
		decided = tierNamed(s.c.tiers, tier.Tier).Default != api.Pass
		for _, id := range tier.Policies {
			if id == p.ID {
				return PolicyID{}, false
			}
			sum := s.sum(id)[dir]
			passes = passes || sum.Passes
			if sum.Rest != "" {
				by, decided = id, true
				break
			}
		}
		if decided && (own || !passes) {
			return by, true
		}
	}
	return PolicyID{}, false
}

// Unreached reports whether a policy decides nothing in a direction, at any endpoint that it selects, because all traffic is decided
// before. For the first of these endpoints by says what decides: a policy, or the end of a tier (its kind is Tier then).
func (s *Survey) Unreached(policy api.Key, dir Direction) (by, endpoint api.Key, unreached bool) {
	p := s.policies[PolicyID{Kind: policy.Kind, Namespace: policy.Namespace, Name: policy.Name}]
	if p == nil || !p.stages[Normal][dir] {
		return by, endpoint, false
	}
	for key, t := range s.c.entities {
		if key.Kind != api.KindWorkloadEndpoint && key.Kind != api.KindHostEndpoint || !p.selector.Matches(t.labels) {
			continue
		}
		id, decided := s.decidedBefore(p, s.policiesOf(key)[dir], dir)
		if !decided {
			return api.Key{}, api.Key{}, false
		}
		if !unreached || compareKeys(key, endpoint) < 0 {
			by, endpoint, unreached = id.key(), key, true
		}
	}
	return by, endpoint, unreached
}

// MayBeUnreached reports whether a policy before this one decides all traffic in a direction, or is in an earlier tier that ends with a
// denial. It needs no endpoints.
func (s *Survey) MayBeUnreached(policy api.Key, dir Direction) bool {
	p := s.policies[PolicyID{Kind: policy.Kind, Namespace: policy.Namespace, Name: policy.Name}]
	for _, q := range s.c.policies { // in order
		if p == nil || q == p {
			break
		}
		ends := q.Tier != p.Tier && tierNamed(s.c.tiers, q.Tier).Default != api.Pass
		if q.stages[Normal][dir] && (ends || s.sum(q.ID)[dir].Rest != "") {
			return true
		}
	}
	return false
}

// Selected counts the endpoints that a policy selects.
func (s *Survey) Selected(policy api.Key) (hosts, workloads int) {
	p := s.policies[PolicyID{Kind: policy.Kind, Namespace: policy.Namespace, Name: policy.Name}]
	for key, t := range s.c.entities {
		switch {
		case p == nil || !p.selector.Matches(t.labels):
		case key.Kind == api.KindHostEndpoint:
			hosts++
		case key.Kind == api.KindWorkloadEndpoint:
			workloads++
		}
	}
	return hosts, workloads
}

// sum counts the rules of a policy by their effect, in each direction.
func (s *Survey) sum(id PolicyID) *[2]api.Sum {
	if s.sums[id] == nil {
		spec, _ := specOf(s.c.objects[id.Kind][id.key()])
		s.sums[id] = &[2]api.Sum{Ingress: api.SumUp(spec.Ingress), Egress: api.SumUp(spec.Egress)}
		if s.policies[id].denies {
			all := api.SumUp([]api.Rule{{Action: api.Deny}})
			s.sums[id] = &[2]api.Sum{all, all}
		}
	}
	return s.sums[id]
}

// Unaddressed is a side of a rule whose selector matches entities of which none has an address.
type Unaddressed struct {
	Direction Direction
	Rule      int
	Side      string    // source or destination
	Matches   []api.Key // the entities
}

// Unaddressed finds such sides in the rules of an object. Such a rule matches no packet.
func (s *Survey) Unaddressed(key api.Key) (found []Unaddressed) {
	for dir, rules := range rulesOf(s.c.objects[key.Kind][key].Object) {
		for i, r := range rules {
			for side, e := range [...]api.EntityRule{r.Source, r.Destination} {
				if matches := s.unaddressed(key.Namespace, e); len(matches) > 0 {
					found = append(found, Unaddressed{Direction(dir), i, [...]string{"source", "destination"}[side], matches})
				}
			}
		}
	}
	return found
}

// unaddressed names the objects that the selectors of one side of a rule match, if none of them has an address.
func (s *Survey) unaddressed(namespace string, e api.EntityRule) (matches []api.Key) {
	_, e.Selector = e.DroppedFields()
	c := criteria{namespace: namespace}
	of, _, err := c.selectors(e)
	if err != nil || of == nil {
		return nil
	}
	text := of.String()
	if known, yes := s.matched[text]; yes {
		return known
	}
	for key, t := range s.c.entities {
		if !of.Matches(t.labels) {
			continue
		}
		if t.contribution().addressed() {
			matches = nil
			break
		}
		matches = append(matches, key)
	}
	slices.SortFunc(matches, compareKeys)
	s.matched[text] = matches
	return matches
}

// rulesOf are the rules of a policy or profile by direction.
func rulesOf(o api.Object) [2][]api.Rule {
	if profile, ok := o.(*api.Profile); ok {
		return [2][]api.Rule{Ingress: profile.Spec.Ingress, Egress: profile.Spec.Egress}
	}
	if o == nil {
		return [2][]api.Rule{}
	}
	spec, _, _ := api.PolicyOf(o)
	return [2][]api.Rule{Ingress: spec.Ingress, Egress: spec.Egress}
}

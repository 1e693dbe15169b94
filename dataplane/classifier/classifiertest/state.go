package classifiertest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// Options limit a random state. The zero value is a small one with everything in it.
type Options struct {
	Policies  int // at most; 0: 8
	Rules     int // at most, for each policy and direction; 0: 6
	Sets      int // at most; 0: 5
	Endpoints int // at most; 0: 4
	Rare      int // one rule of so many has the action Log, and one Pass; 0: 12
}

func (o Options) defaults() Options {
	or := func(n, d int) int {
		if n == 0 {
			return d
		}
		return n
	}
	return Options{or(o.Policies, 8), or(o.Rules, 6), or(o.Sets, 5), or(o.Endpoints, 4), or(o.Rare, 12)}
}

// RandomState returns a state whose endpoints are as calc would make them: lists in order, every name resolved.
func RandomState(r *rand.Rand, o Options) *calc.State {
	o = o.defaults()
	s := &calc.State{
		Tiers:     map[string]calc.Tier{},
		Policies:  map[calc.PolicyID]calc.Policy{},
		Sets:      map[calc.SetID]calc.Members{},
		Endpoints: map[calc.EndpointID]calc.Endpoint{},
	}
	for i := range 1 + r.IntN(o.Sets) {
		s.Sets[calc.SetID(fmt.Sprintf("set-%d", i))] = randomMembers(r)
	}
	for i := range 1 + r.IntN(3) {
		t := randomTier(r, fmt.Sprintf("tier-%d", i))
		s.Tiers[t.Name] = t
	}
	for i := range 1 + r.IntN(o.Policies) {
		p := randomPolicy(r, s, o, i)
		s.Policies[p.ID] = p
	}
	for i := range 1 + r.IntN(3) {
		p := calc.Policy{ID: calc.PolicyID{Kind: api.KindProfile, Name: fmt.Sprintf("profile-%d", i)}}
		p.Ingress, p.Egress = randomRules(r, s, o), randomRules(r, s, o)
		s.Policies[p.ID] = p
	}
	for _, id := range failsafeIDs {
		s.Policies[id] = randomFailsafe(r, id, api.Allow)
	}
	for _, id := range earlyIDs {
		s.Policies[id] = randomFailsafe(r, id, api.Pass)
	}
	for i := range 1 + r.IntN(o.Endpoints) {
		e := randomEndpoint(r, s, i)
		s.Endpoints[e.ID] = e
	}
	return s
}

// In the order of the lists, which is not that of the names. The early ones are those of the early stages.
var (
	failsafeIDs = []calc.PolicyID{
		{Kind: calc.KindFailsafe, Name: "sessions"},
		{Kind: calc.KindFailsafe, Name: "ports"},
	}
	earlyIDs = []calc.PolicyID{
		{Kind: calc.KindFailsafe, Name: "early-sessions"},
		{Kind: calc.KindFailsafe, Name: "early-ports"},
	}
)

func randomFailsafe(r *rand.Rand, id calc.PolicyID, action api.Action) calc.Policy {
	rule := func() calc.Rule {
		return calc.Rule{Action: action, V4: true, V6: true, Protocol: 6,
			Destination: calc.Match{Ports: []calc.PortRange{randomPorts(r)}}}
	}
	return calc.Policy{ID: id, Ingress: []calc.Rule{rule()}, Egress: []calc.Rule{rule()}}
}

func randomTier(r *rand.Rand, name string) calc.Tier {
	t := calc.Tier{Name: name, Order: randomOrder(r), Default: api.Deny, Missing: r.IntN(8) == 0}
	if !t.Missing && r.IntN(3) == 0 {
		t.Default = api.Pass
	}
	return t
}

func randomOrder(r *rand.Rand) calc.Order {
	if r.IntN(4) == 0 {
		return calc.Order{}
	}
	return calc.Order{Value: float64(r.IntN(5)) - 1.5, Set: true}
}

func randomPolicy(r *rand.Rand, s *calc.State, o Options, i int) calc.Policy {
	return calc.Policy{
		ID:      calc.PolicyID{Kind: api.KindGlobalNetworkPolicy, Name: fmt.Sprintf("policy-%d", i)},
		Tier:    pick(r, slices.Sorted(maps.Keys(s.Tiers))),
		Order:   randomOrder(r),
		Ingress: randomRules(r, s, o),
		Egress:  randomRules(r, s, o),
	}
}

func randomEndpoint(r *rand.Rand, s *calc.State, i int) calc.Endpoint {
	e := calc.Endpoint{ID: calc.EndpointID{Kind: api.KindWorkloadEndpoint, Name: fmt.Sprintf("endpoint-%d", i)}}
	if r.IntN(2) == 0 {
		e.ID.Kind = api.KindHostEndpoint
	}
	arrange(r, s, &e)
	return e
}

// arrange draws the profiles and policies of an endpoint.
func arrange(r *rand.Rand, s *calc.State, e *calc.Endpoint) {
	e.Profiles = nil
	var policies []calc.PolicyID
	for _, id := range sortedPolicies(s) {
		switch {
		case r.IntN(2) == 0 || id.Kind == calc.KindFailsafe:
		case id.Kind == api.KindProfile:
			e.Profiles = append(e.Profiles, id.Name)
		default:
			policies = append(policies, id)
		}
	}
	r.Shuffle(len(e.Profiles), func(i, j int) { e.Profiles[i], e.Profiles[j] = e.Profiles[j], e.Profiles[i] })
	for stage := range e.Policies {
		for dir := range e.Policies[stage] {
			e.Policies[stage][dir] = nil
			if calc.Stage(stage) != calc.Normal && (e.ID.Kind != api.KindHostEndpoint || r.IntN(2) == 0) {
				continue
			}
			var some []calc.PolicyID
			for _, id := range policies {
				if r.IntN(4) > 0 {
					some = append(some, id)
				}
			}
			e.Policies[stage][dir] = byTier(s, some)
			if e.ID.Kind == api.KindHostEndpoint && calc.Stage(stage) != calc.Forward {
				front := []calc.TierPolicies{{Policies: failsafeIDs}}
				if calc.Stage(stage) != calc.Normal {
					front[0].Policies = earlyIDs
				}
				e.Policies[stage][dir] = append(front, e.Policies[stage][dir]...)
			}
		}
	}
}

// Rearrange puts the lists of every endpoint in order again after policies or tiers have changed, and drops what is
// not there any more.
func Rearrange(s *calc.State) {
	for id, e := range s.Endpoints {
		e.Profiles = slices.DeleteFunc(slices.Clone(e.Profiles), func(name string) bool {
			_, known := s.Policies[calc.PolicyID{Kind: api.KindProfile, Name: name}]
			return !known
		})
		for stage := range e.Policies {
			for dir, tiers := range e.Policies[stage] {
				var front []calc.TierPolicies
				var ids []calc.PolicyID
				for _, t := range tiers {
					if t.Tier == "" {
						front = append(front, t)
						continue
					}
					for _, id := range t.Policies {
						if _, known := s.Policies[id]; known {
							ids = append(ids, id)
						}
					}
				}
				e.Policies[stage][dir] = append(front, byTier(s, ids)...)
			}
		}
		s.Endpoints[id] = e
	}
}

func sortedPolicies(s *calc.State) []calc.PolicyID {
	return slices.SortedFunc(maps.Keys(s.Policies), func(a, b calc.PolicyID) int {
		return compareStrings(a.Kind, b.Kind, a.Name, b.Name)
	})
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func randomMembers(r *rand.Rand) calc.Members {
	m := calc.Members{}
	for range r.IntN(6) {
		m[randomNet(r)] = struct{}{}
	}
	return m
}

var prefixes = []string{
	"0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/24", "10.0.0.0/30", "10.0.1.0/24", "10.128.0.0/9",
	"192.168.0.0/16", "192.168.1.1/32", "255.255.255.255/32", "128.0.0.0/1", "10.0.0.0/31",
	"::/0", "::/80", "::/1", "fd00::/8", "fd00::/64", "fd00:1::/32", "fd00::1/128", "fd00::/126", "8000::/1",
	"::fffe:0:0/95", "::ffff:0:0:0/80",
}

func randomNet(r *rand.Rand) netip.Prefix {
	if r.IntN(3) == 0 {
		a := randomAddr(r)
		return netip.PrefixFrom(a, a.BitLen())
	}
	return netip.MustParsePrefix(pick(r, prefixes))
}

package calc

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
)

// For any objects: the answers of a survey (closed, cut off, unreached) agree with the verdicts of Judge.
func TestASurveyAgreesWithVerdicts(t *testing.T) {
	t.Parallel()
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	closed, cut, unreached := 0, 0, 0
	for i := range 300 {
		w := world{rand.New(rand.NewPCG(first+uint64(i), 2))}
		var updates []api.Update
		for range 90 {
			updates = append(updates, w.update())
		}
		s, survey := Compute("n1", Facts{}, updates), NewSurvey(updates)
		closed += w.checkUnjudged(t, s, survey)
		for id := range survey.policies {
			cut += w.checkCutOff(t, s, survey, id)
			unreached += w.checkUnreached(t, s, survey, id)
		}
		if t.Failed() {
			t.Fatalf("run again with -seed=%d", first+uint64(i))
		}
	}
	if closed == 0 || cut == 0 || unreached == 0 {
		t.Errorf("%d closed directions, %d cut off, %d unreached: the random objects show nothing", closed, cut, unreached)
	}
	t.Logf("%d closed directions, %d cut off, %d unreached, seed %d", closed, cut, unreached, first)
}

func (w world) packet() Packet {
	a := func() netip.Addr {
		return netip.MustParseAddr(pick(w, "10.65.0.1", "10.65.0.2", "10.70.0.1", "192.0.2.7"))
	}
	return Packet{Source: a(), Destination: a(), Protocol: pick[uint8](w, protocolTCP, protocolUDP, protocolICMP),
		SourcePort: 50000, DestinationPort: pick[uint16](w, 22, 53, 80, 8080)}
}

func (w world) checkUnjudged(t *testing.T, s *State, survey *Survey) (closed int) {
	for id, ep := range s.Endpoints {
		for _, dir := range survey.Unjudged(api.Key(id)) {
			if ep.Closed != "" || len(ep.Profiles) > 0 {
				continue
			}
			closed++
			for range 20 {
				p := w.packet()
				if v := Judge(s, id, Normal, dir, p); v.Action != api.Deny && v.Rule.Policy.Kind != KindFailsafe {
					t.Errorf("%v is said to be closed for %v, but %v is %v by %v", id, dir, p, v.Action, v.Rule)
				}
			}
		}
	}
	return closed
}

// checkCutOff: of all packets that reach the policy's tier, only rules of the policy itself allow any.
func (w world) checkCutOff(t *testing.T, s *State, survey *Survey, policy PolicyID) (cut int) {
	for dir := range 2 {
		endpoints, _ := survey.CutOff(policy.key(), Direction(dir))
		for id, ep := range s.Endpoints {
			if ep.Closed != "" || !slices.Contains(endpoints, api.Key(id)) {
				continue
			}
			cut++
			tiers := ep.Policies[Normal][dir]
			at := slices.IndexFunc(tiers, func(tp TierPolicies) bool { return slices.Contains(tp.Policies, policy) })
			for range 20 {
				p := w.packet()
				v := Judge(s, id, Normal, Direction(dir), p)
				before := slices.ContainsFunc(tiers[:at], func(tp TierPolicies) bool { return slices.Contains(tp.Policies, v.Rule.Policy) })
				if passed := slices.ContainsFunc(v.Passed, func(r RuleID) bool { return r.Policy == policy }); v.Action == api.Allow &&
					!before && !passed && v.Rule.Policy != policy {
					t.Errorf("%v is said to be cut off by %v for %v, but %v is allowed by %v", id, policy, Direction(dir), p, v.Rule)
				}
			}
		}
	}
	return cut
}

// checkUnreached: no rule of the policy decides about a packet, or passes one on.
func (w world) checkUnreached(t *testing.T, s *State, survey *Survey, policy PolicyID) (count int) {
	for dir := range 2 {
		if _, _, unreached := survey.Unreached(policy.key(), Direction(dir)); !unreached {
			continue
		}
		count++
		if !survey.MayBeUnreached(policy.key(), Direction(dir)) {
			t.Errorf("%v is unreached for %v, and no policy before it looks so", policy, Direction(dir))
		}
		for id := range s.Endpoints {
			for range 20 {
				p := w.packet()
				v := Judge(s, id, Normal, Direction(dir), p)
				if v.Rule.Policy == policy || slices.ContainsFunc(v.Passed, func(r RuleID) bool { return r.Policy == policy }) {
					t.Errorf("%v is said to be unreached for %v, but decides %v on %v", policy, Direction(dir), p, id)
				}
			}
		}
	}
	return count
}

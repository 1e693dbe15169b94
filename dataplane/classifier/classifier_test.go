package classifier

import (
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier/classifiertest"
)

// change returns a copy of a state after f.
func change(s *calc.State, f func(*calc.State)) *calc.State {
	n := &calc.State{Tiers: maps.Clone(s.Tiers), Policies: maps.Clone(s.Policies), Sets: maps.Clone(s.Sets),
		Endpoints: maps.Clone(s.Endpoints)}
	f(n)
	return n
}

func policyID(name string) calc.PolicyID {
	return calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: name}
}

func (n *node) slots() map[calc.RuleID]uint32 {
	out := map[calc.RuleID]uint32{}
	for _, l := range n.order.lists {
		for _, it := range l.items {
			out[it.id] = it.slot
		}
	}
	return out
}

func TestUnchangedRulesKeepTheirSlots(t *testing.T) {
	t.Parallel()
	s := fleet(5, 20, 3)
	n := newNode(t, medium)
	n.become(t, s)
	before := n.slots()
	n.become(t, change(s, func(s *calc.State) {
		p := s.Policies[policyID("policy-00002")]
		p.Ingress = append([]calc.Rule(nil), p.Ingress...)
		p.Ingress[7].Action = api.Deny
		s.Policies[p.ID] = p
	}))
	moved := 0
	for id, slot := range n.slots() {
		if before[id] != slot {
			moved++
			if id.Policy.Name != "policy-00002" {
				t.Errorf("%v moved", id)
			}
		}
	}
	if moved == 0 {
		t.Error("the changed rule has its old slot: it was changed in place")
	}
}

func TestMembershipNeedsNoCommit(t *testing.T) {
	t.Parallel()
	n := newNode(t, medium)
	n.become(t, fleet(2, 6, 2))
	writes := 0
	n.hook = func(netip.Prefix) { writes++ }
	join := calc.SetDelta{Added: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}
	commit, err := n.Apply(&calc.Delta{Sets: map[calc.SetID]calc.SetDelta{"set-1": join}})
	if err != nil || len(commit.Endpoints) > 0 || writes != 1 {
		t.Errorf("commit %v, error %v, %d writes; want none, none, 1", commit, err, writes)
	}
}

func TestEndpointsWithTheSamePoliciesShareMasks(t *testing.T) {
	t.Parallel()
	n := newNode(t, medium)
	n.become(t, fleet(3, 5, 20))
	for _, m := range n.entries {
		if want := n.entries[calc.EndpointID{Kind: "WorkloadEndpoint", Name: "endpoint-0"}]; m != want {
			t.Fatalf("masks %v and %v", m, want)
		}
	}
	if len(n.masks.all) != 2 {
		t.Errorf("%d masks, want one for each direction", len(n.masks.all))
	}
}

func TestTooManyContinuationsCloseTheEndpointUntilThereAreFewer(t *testing.T) {
	t.Parallel()
	with := func(logs int) *calc.State {
		return change(fleet(2, 1, 1), func(s *calc.State) {
			p := s.Policies[policyID("policy-00000")]
			p.Ingress = nil
			for range logs {
				p.Ingress = append(p.Ingress, calc.Rule{Action: api.Log, V4: true, V6: true})
			}
			p.Ingress = append(p.Ingress, calc.Rule{Action: api.Allow, V4: true, V6: true})
			s.Policies[p.ID] = p
		})
	}
	id := calc.EndpointID{Kind: "WorkloadEndpoint", Name: "endpoint-0"}
	n := newNode(t, medium)
	const most = calc.MaxContinuations
	for _, logs := range []int{most, most + 1, most} {
		n.become(t, with(logs))
		if closed := n.entries[id].Closed; (closed != "") != (logs > most) {
			t.Fatalf("%d log rules: closed %q", logs, closed)
		}
		n.check(t, random(t, 0), 20)
	}
}

func TestRulesWithTheSameNumberCloseOnlyTheirEndpoints(t *testing.T) {
	t.Parallel()
	n := newNode(t, medium)
	n.hash = func(id calc.RuleID) uint64 {
		if id.Policy.Name == "policy-00001" && id.Index == 3 {
			id.Policy.Name = "policy-00000"
		}
		return id.Hash()
	}
	s := change(fleet(2, 5, 2), func(s *calc.State) {
		id := calc.EndpointID{Kind: "WorkloadEndpoint", Name: "endpoint-0"}
		e := s.Endpoints[id]
		e.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{
			{Tier: "default", Policies: []calc.PolicyID{policyID("policy-00000")}},
		}
		s.Endpoints[id] = e
	})
	n.become(t, change(s, func(s *calc.State) { delete(s.Policies, policyID("policy-00001")) }))
	n.become(t, s)
	for id, m := range n.entries {
		if collides := id.Name == "endpoint-1"; collides != strings.Contains(m.Closed, "same number") {
			t.Errorf("%v closed: %q", id, m.Closed)
		}
	}
}

func TestAMaskMovesFromOneStageToAnother(t *testing.T) {
	t.Parallel()
	s := fleet(1, 3, 1)
	id := calc.EndpointID{Kind: "HostEndpoint", Name: "host"}
	at := func(stage calc.Stage) *calc.State {
		return change(s, func(s *calc.State) {
			e := calc.Endpoint{ID: id}
			e.Policies[stage][calc.Ingress] = []calc.TierPolicies{
				{Tier: "default", Policies: []calc.PolicyID{policyID("policy-00000")}},
			}
			s.Endpoints[id] = e
		})
	}
	n := newNode(t, medium)
	for _, stage := range []calc.Stage{calc.PreDNAT, calc.Untracked, calc.PreDNAT, calc.Untracked, calc.PreDNAT} {
		n.become(t, at(stage))
		n.check(t, random(t, int(stage)), 50)
	}
}

func TestAClosedHostEndpointKeepsItsFailsafes(t *testing.T) {
	t.Parallel()
	r := random(t, 0)
	failsafe := calc.PolicyID{Kind: calc.KindFailsafe, Name: "ports"}
	id := calc.EndpointID{Kind: "HostEndpoint", Name: "host"}
	s := fleet(1, 3, 1)
	s.Policies[failsafe] = calc.Policy{ID: failsafe, Ingress: []calc.Rule{{
		Action: api.Allow, V4: true, V6: true, Protocol: 6,
		Destination: calc.Match{Ports: []calc.PortRange{{First: 22, Last: 22}}},
	}}}
	e := calc.Endpoint{ID: id, Closed: "broken"}
	e.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{{Policies: []calc.PolicyID{failsafe}}}
	s.Endpoints[id] = e
	n := newNode(t, medium)
	n.become(t, s)
	mask := n.entries[id].Mask
	for range 200 {
		p := classifiertest.RandomPacket(r, s)
		p.DestinationPort = 22
		want := api.Deny
		if p.Protocol == 6 {
			want = api.Allow
		}
		if got := n.view().Verdict(mask[layout.StageNormalIn], p).Action; got != want {
			t.Fatalf("%+v: %s, want %s", p, got, want)
		}
		if got := n.view().Verdict(mask[layout.StageForwardIn], p).Action; got != api.Deny {
			t.Fatalf("forwarded %+v: %s", p, got)
		}
	}
}

func TestAMissingPolicyClosesItsEndpointUntilItIsThere(t *testing.T) {
	t.Parallel()
	s := fleet(2, 3, 1)
	id := calc.EndpointID{Kind: "WorkloadEndpoint", Name: "endpoint-0"}
	n := newNode(t, medium)
	for _, missing := range []bool{true, false, true, false} {
		n.become(t, change(s, func(s *calc.State) {
			if missing {
				delete(s.Policies, policyID("policy-00001"))
			}
		}))
		if closed := n.entries[id].Closed; (closed != "") != missing {
			t.Fatalf("missing %v: closed %q", missing, closed)
		}
	}
}

// Once all objects are gone the tables are as at the start.
func TestTablesAreEmptyAfterEverythingIsGone(t *testing.T) {
	t.Parallel()
	for i := range 40 * *rounds {
		r := random(t, i)
		n := newNode(t, small)
		o := classifiertest.Options{}
		n.become(t, classifiertest.RandomState(r, o))
		for range 10 {
			n.become(t, classifiertest.Change(r, n.state, o))
		}
		n.become(t, &calc.State{})
		for range 3 { // things that one Reuse retires are freed by the next
			n.become(t, &calc.State{})
		}
		_, use := n.Use()
		if diff := cmp.Diff(Sizes{Blocks: 1, Vectors: 1, Chunks: 1, Nets: 1}, use); diff != "" {
			t.Fatal(diff)
		}
		if len(n.ruleNames)+len(n.rulesets)+len(n.profiles)+len(n.order.retired)+len(n.Classifier.addresses.lists) > 0 {
			t.Fatalf("left: names %v rulesets %v profiles %v retired %v", n.ruleNames, n.rulesets, n.profiles, n.order.retired)
		}
		if n.mem.Wild[0] != (layout.Wild{}) {
			t.Fatal("wild bits are left")
		}
		for p := range layout.Services {
			if n.mem.Services[p] != 0 {
				t.Fatalf("service %d is left", p)
			}
		}
		if hosts, nets := n.Image.Size(); hosts != 0 || nets != 1 {
			t.Fatalf("%d hosts and %d nets are left", hosts, nets)
		}
	}
}

func TestEveryDecidingRuleHasAName(t *testing.T) {
	t.Parallel()
	r := random(t, 0)
	n := newNode(t, small)
	n.become(t, classifiertest.RandomState(r, classifiertest.Options{}))
	for _, m := range n.entries {
		for range 100 {
			got := n.view().Verdict(m.Mask[0], classifiertest.RandomPacket(r, n.state))
			if id, known := n.Rule(got.Rule); !known || id.Hash() != got.Rule {
				t.Fatalf("rule %x is %v", got.Rule, id)
			}
		}
	}
}

package main

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane"
)

func TestEachProblemIsShownOnceAndInOrder(t *testing.T) {
	t.Parallel()
	key := func(name string) api.Key { return api.Key{Kind: "GlobalNetworkPolicy", Name: name} }
	a := &agent{
		state: calc.State{Problems: map[calc.Problem]struct{}{
			{Object: key("never"), Text: "invalid: not JSON; until it is corrected it denies"}: {},
			{Object: key("half"), Text: "rule 0: something"}:                                   {},
		}},
		invalid:  map[api.Key]string{key("never"): "not JSON", key("half"): "not YAML"},
		bgpError: errors.New("port 179"), registrar: &registrar{},
	}
	want := []*agentv1.Problem{
		{Object: "BGP", Text: "port 179"},
		{Object: "GlobalNetworkPolicy(half)", Text: "rule 0: something"},
		{Object: "GlobalNetworkPolicy(half)", Text: "the stored object is not valid, so its last valid version is in force: not YAML"},
		{Object: "GlobalNetworkPolicy(never)", Text: "invalid: not JSON; until it is corrected it denies"},
		{Object: "HostEndpoint(typo)", Text: "it governs no interface, so its policies are in force nowhere: waiting for interface etho0; correct spec.interfaceName or spec.expectedIPs, or delete it"},
		{Object: "dataplane", Text: "no gate"},
	}
	if diff := cmp.Diff(want, a.problems([]string{"no gate"}, []dataplane.Interface{idle("new", idleGrace-1), idle("typo", idleGrace)}, nil), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if len(a.invalid) != 2 {
		t.Error("showing the problems changes them")
	}
}

func idle(name string, since time.Duration) dataplane.Interface {
	return dataplane.Interface{
		Endpoint: calc.EndpointID{Kind: "HostEndpoint", Name: name}, State: dataplane.Waiting, Reason: "waiting for interface etho0", Idle: since,
	}
}

func TestStatusShowsTheSourceOfEachSetting(t *testing.T) {
	t.Parallel()
	a := &agent{state: calc.State{Config: calc.Config{
		Raw: map[string]string{"bpfLogLevel": "Info"}, Sources: map[string]string{"bpfLogLevel": "node.n1"},
	}}}
	if got := a.configuration(); got["bpfLogLevel"] != "Info (node.n1)" || len(got) != 1 {
		t.Error(got)
	}
}

func TestStatusUsesTheNamesOfObjects(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		endpointName(calc.EndpointID{Name: "h"}):                                            "h",
		endpointName(calc.EndpointID{Namespace: "shop", Name: "web"}):                       "shop/web",
		policyName("default", calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "p"}):        "default/p",
		policyName("t", calc.PolicyID{Kind: "NetworkPolicy", Namespace: "shop", Name: "p"}): "t/shop/p",
		policyName("", calc.PolicyID{Kind: api.KindProfile, Name: "vm"}):                    "profile vm",
		policyName("", calc.PolicyID{Kind: calc.KindFailsafe, Name: "ports"}):               "failsafe ports",
		protocolName(6):  "tcp",
		protocolName(47): "47",
		memberText(netip.MustParsePrefix("10.0.0.1/32")):                           "10.0.0.1",
		memberText(netip.MustParsePrefix("10.0.0.0/24")):                           "10.0.0.0/24",
		text(errors.Join(errors.New("one"), errors.New("two"), errors.New("one"))): "one; two",
		text(nil): "",
	} {
		if got != want {
			t.Errorf("%q should be %q", got, want)
		}
	}
}

func TestADumpedRuleSaysWhyItIsNotEnforced(t *testing.T) {
	t.Parallel()
	key := api.Key{Kind: "GlobalNetworkPolicy", Name: "p"}
	rule := calc.RuleID{Policy: calc.PolicyID{Kind: key.Kind, Name: "p"}, Tier: "default", Direction: calc.Egress, Index: 1}
	problem := calc.Problem{Object: key, Text: "egress rule 1: domains are not enforced yet"}
	a := &agent{state: calc.State{Problems: map[calc.Problem]struct{}{problem: {}}}}
	want, _ := problem.OfRule(calc.Egress, 1)
	got := dumpRule(dataplane.Rule{ID: rule, Action: "Deny", Packets: 3}, a.problemsByObject())
	if want == "" || got.NotEnforced != want || got.Rule != "default/p/1" || got.Direction != "egress" || got.Packets != 3 {
		t.Errorf("%v, want %q", got, want)
	}
	rule.Index = 2
	if got := dumpRule(dataplane.Rule{ID: rule}, a.problemsByObject()); got.NotEnforced != "" {
		t.Errorf("%v", got)
	}
}

// A pass may run without a new revision: after a change of the host, or as a retry.
func TestARevisionIsAppliedSinceItsFirstPass(t *testing.T) {
	t.Parallel()
	a, first := &agent{revision: 7}, time.Unix(1000, 0)
	a.inForce(first)
	a.inForce(first.Add(time.Minute))
	if a.applied != 7 || !a.appliedAt.Equal(first) {
		t.Errorf("revision %d since %v", a.applied, a.appliedAt)
	}
	a.revision = 8
	a.inForce(first.Add(time.Hour))
	if a.applied != 8 || !a.appliedAt.Equal(first.Add(time.Hour)) {
		t.Errorf("revision %d since %v", a.applied, a.appliedAt)
	}
}

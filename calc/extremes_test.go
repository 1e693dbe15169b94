package calc

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/api"
)

// Objects of extreme size are in force as written: Graph and Compute agree, and the last part of each object decides about packets.
func TestObjectsOfExtremeSizeAreInForce(t *testing.T) {
	t.Parallel()
	var terms, nets []string
	for i := range 1000 {
		terms = append(terms, fmt.Sprintf("role == 'r%d'", i))
	}
	for i := range 100_000 {
		nets = append(nets, fmt.Sprintf("11.%d.%d.%d/32", i>>16, i>>8&255, i&255))
	}
	rules := make([]api.Rule, 1024)
	for i := range rules {
		rules[i] = api.Rule{Action: api.Deny, Source: api.EntityRule{Nets: []string{fmt.Sprintf("12.0.%d.%d/32", i>>8, i&255)}}}
	}
	rules[1023] = api.Rule{Action: api.Allow, Source: api.EntityRule{Selector: "many == 'nets'"}}
	long := strings.Repeat("long.", 1000) + "name"
	updates := []api.Update{
		{Key: api.Key{Kind: api.KindGlobalNetworkSet, Name: "nets"}, Object: &api.GlobalNetworkSet{
			Metadata: api.Metadata{Labels: map[string]string{"many": "nets"}}, Spec: api.NetworkSetSpec{Nets: nets},
		}},
		{Key: api.Key{Kind: api.KindTier, Name: "default"}, Object: &api.Tier{}},
		{Key: api.Key{Kind: api.KindGlobalNetworkPolicy, Name: long}, Object: &api.GlobalNetworkPolicy{Spec: api.GlobalNetworkPolicySpec{
			Selector: strings.Join(terms, " || "), Ingress: rules,
		}}},
		{Key: api.Key{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: "n1-vm-" + long}, Object: &api.WorkloadEndpoint{
			Metadata: api.Metadata{Labels: map[string]string{"role": "r999"}},
			Spec: api.WorkloadEndpointSpec{
				Orchestrator: "vm", Node: "n1", InterfaceName: "cali1", IPNetworks: []string{"10.65.0.1/32"}, Profiles: []string{long},
			},
		}},
	}
	state := Compute("n1", Facts{}, updates)
	g, folded := New("n1", Facts{}), &State{}
	for _, u := range updates {
		g.Update(u)
		folded.Fold(g.Flush())
	}
	if diff := differences(state, folded, false); diff != "" {
		t.Error(diff)
	}
	endpoint := EndpointID{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: "n1-vm-" + long}
	policy := PolicyID{Kind: api.KindGlobalNetworkPolicy, Name: long}
	for source, want := range map[string]Verdict{
		"11.1.134.159": {Action: api.Allow, Rule: RuleID{Policy: policy, Tier: "default", Index: 1023}},
		"11.1.134.160": {Action: api.Deny, Rule: RuleID{Policy: PolicyID{Kind: api.KindTier, Name: "default"}, Tier: "default", Index: -1}},
		"12.0.3.254":   {Action: api.Deny, Rule: RuleID{Policy: policy, Tier: "default", Index: 1022}},
	} {
		got := Judge(state, endpoint, Normal, Ingress, Packet{
			Protocol: protocolTCP, Source: netip.MustParseAddr(source), Destination: netip.MustParseAddr("10.65.0.1"), DestinationPort: 80,
		})
		if !cmp.Equal(want, got) {
			t.Errorf("from %s: %+v, want %+v", source, got, want)
		}
	}
	if len(state.Sets[`many == "nets"`]) != len(nets) {
		t.Errorf("the set has %d members", len(state.Sets[`many == "nets"`]))
	}
	if diff := cmp.Diff([]Problem{noProfile(long)}, state.SortedProblems()); diff != "" {
		t.Error(diff)
	}
}

// If one net of many is exchanged, the Delta has one net that leaves and one that joins.
func TestAChangeOfALargeNetworkSetIsOnlyTheDifference(t *testing.T) {
	t.Parallel()
	set := func(last string) api.Update {
		nets := []string{last}
		for i := range 100_000 {
			nets = append(nets, fmt.Sprintf("11.%d.%d.%d/32", i>>16, i>>8&255, i&255))
		}
		return api.Update{Key: api.Key{Kind: api.KindGlobalNetworkSet, Name: "nets"}, Object: &api.GlobalNetworkSet{
			Metadata: api.Metadata{Labels: map[string]string{markerOf(0): "true"}}, Spec: api.NetworkSetSpec{Nets: nets},
		}}
	}
	g := New(benchNode, Facts{})
	for _, u := range []api.Update{tagPolicy(0), taggedEndpoint(benchNode, 0), set("12.0.0.1/32")} {
		g.Update(u)
	}
	g.Flush()
	g.Update(set("12.0.0.2/32"))
	want := "+ set has(marker-0): 12.0.0.2/32\n- from set has(marker-0): 12.0.0.1/32\n"
	if got := g.Flush().Text(); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
}

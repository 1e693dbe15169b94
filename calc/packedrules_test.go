package calc

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/margay-project/margay/api"
)

func TestPackedRulesKeepWhatMattersHere(t *testing.T) {
	t.Parallel()
	n := 300
	side := api.EntityRule{
		Nets: []string{"a"}, Selector: "b", NamespaceSelector: "c", Services: &api.ServiceMatch{}, Ports: []api.Port{{First: 1, Last: 65535}},
		Domains: []string{"d"}, NotNets: []string{"e", ""}, NotSelector: "f", NotPorts: []api.Port{{Name: "g"}},
		ServiceAccounts: &api.ServiceAccountMatch{Names: []string{"h"}, Selector: "i"}, Unknown: []string{"j"},
	}
	rules := []api.Rule{{}, {
		Action: "odd", IPVersion: &n, Protocol: &api.Protocol{Number: 255}, NotProtocol: &api.Protocol{Name: "k"},
		ICMP: &api.ICMPFields{Type: &n}, NotICMP: &api.ICMPFields{Code: &n}, HTTP: &api.HTTPMatch{}, Unknown: []string{"l"},
		Source: side, Destination: side,
	}, {Action: api.Deny, Destination: side}}
	w := world{rand.New(rand.NewPCG(1, 1))}
	for range 200 {
		rules = append(rules, w.rules()...)
	}
	var again []api.Rule
	for _, packed := range packRules(rules, "b").split() {
		again = append(again, unpackRule(packed, "b"))
	}
	if diff := cmp.Diff(rules, again, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

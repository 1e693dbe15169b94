package calc

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/margay-project/margay/api"
)

// everyFieldSet fails if a field of a struct is not set, so that a field that is added to the type is not forgotten here.
func everyFieldSet(t *testing.T, of any, but ...string) {
	t.Helper()
	v := reflect.ValueOf(of)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && !slices.Contains(but, name) {
			t.Errorf("%s.%s is not set: set it, or say that it is no criterion", v.Type(), name)
		}
	}
}

func TestPackedRulesKeepEveryCriterion(t *testing.T) {
	t.Parallel()
	n := 300
	side := api.EntityRule{
		Nets: []string{"a"}, Selector: "b", NamespaceSelector: "c", Services: &api.ServiceMatch{Name: "m", Namespace: "n"}, Ports: []api.Port{{First: 1, Last: 65535}},
		Domains: []string{"d"}, NotNets: []string{"e", ""}, NotSelector: "f", NotPorts: []api.Port{{Name: "g"}},
		ServiceAccounts: &api.ServiceAccountMatch{Names: []string{"h"}, Selector: "i"}, Unknown: []string{"j"},
	}
	rules := []api.Rule{{}, {
		Action: "odd", IPVersion: &n, Protocol: &api.Protocol{Number: 255}, NotProtocol: &api.Protocol{Name: "k"},
		ICMP: &api.ICMPFields{Type: &n}, NotICMP: &api.ICMPFields{Code: &n}, Unknown: []string{"l"},
		HTTP:   &api.HTTPMatch{Methods: []string{"o"}, Paths: []api.HTTPPath{{Exact: "p"}, {Prefix: "q"}}},
		Source: side, Destination: side,
	}, {Action: api.Deny, Destination: side}}
	everyFieldSet(t, rules[1], "Rest", "Metadata")
	everyFieldSet(t, side, "Rest")
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

package calc

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/margay-project/margay/api"
)

var sameRule = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})}

// resolvedRule is a rule of a policy in namespace ns after it was resolved.
func resolvedRule(r api.Rule) (Rule, []string) {
	rr := ruleReader{namespace: "ns", numbersOf: func(portUse) []portNumber { return nil },
		sets: map[SetID]setSource{}, ports: map[string]portUse{}}
	resolved := rr.rules(Ingress, packRules([]api.Rule{r}, ""))
	return resolved[0], rr.problems
}

// A field that is given but empty adds nothing to a rule: neither a criterion nor a namespace. The test tries every field of the API's
// types, so it will try later ones as well.
func TestAnEmptyMatchAddsNothing(t *testing.T) {
	t.Parallel()
	tried := 0
	for _, action := range []api.Action{api.Allow, api.Deny, api.Pass, api.Log} {
		want, _ := resolvedRule(api.Rule{Action: action})
		try := func(name string, r api.Rule) {
			tried++
			r.Action = action
			got, problems := resolvedRule(r)
			if diff := cmp.Diff(want, got, sameRule); diff != "" || len(problems) > 0 {
				t.Errorf("%s, empty %s: %v %s", action, name, problems, diff)
			}
		}
		for i := range reflect.TypeFor[api.Rule]().NumField() {
			var r api.Rule
			if name := reflect.TypeOf(r).Field(i).Name; makeEmpty(reflect.ValueOf(&r).Elem().Field(i)) {
				try(name, r)
			}
		}
		for i := range reflect.TypeFor[api.EntityRule]().NumField() {
			var side api.EntityRule
			if name := reflect.TypeOf(side).Field(i).Name; makeEmpty(reflect.ValueOf(&side).Elem().Field(i)) {
				try("source."+name, api.Rule{Source: side})
				try("destination."+name, api.Rule{Destination: side})
			}
		}
	}
	if tried < 4*20 {
		t.Errorf("only %d empty fields were tried", tried)
	}
}

// makeEmpty sets a field to a list or match that is given but empty. It reports false if the field has no such value.
func makeEmpty(field reflect.Value) bool {
	switch field.Kind() {
	case reflect.Slice:
		field.Set(reflect.MakeSlice(field.Type(), 0, 0))
		return true
	case reflect.Pointer:
		match := field.Type().Elem()
		if _, scalar := reflect.New(match).Interface().(json.Unmarshaler); scalar || match.Kind() != reflect.Struct {
			return false // protocols and numbers: an empty one is no value
		}
		field.Set(reflect.New(match))
		for i := range match.NumField() {
			makeEmpty(field.Elem().Field(i))
		}
		return true
	}
	return field.Kind() == reflect.String
}

// An empty match does not remove the criteria beside it.
func TestAnEmptyMatchLeavesTheOtherCriteria(t *testing.T) {
	t.Parallel()
	for text, without := range map[string]string{
		`{"action":"Deny","source":{"serviceAccounts":{}}}`:                                  `{"action":"Deny"}`,
		`{"action":"Deny","source":{"serviceAccounts":{"names":[],"selector":""}}}`:          `{"action":"Deny"}`,
		`{"action":"Deny","source":{"serviceAccounts":{},"nets":["10.0.0.0/8"]}}`:            `{"action":"Deny","source":{"nets":["10.0.0.0/8"]}}`,
		`{"action":"Deny","source":{"serviceAccounts":{},"selector":"has(a)"}}`:              `{"action":"Deny","source":{"selector":"has(a)"}}`,
		`{"action":"Deny","source":{"serviceAccounts":{},"notSelector":"has(a)"}}`:           `{"action":"Deny","source":{"notSelector":"has(a)"}}`,
		`{"action":"Allow","http":{},"protocol":"TCP"}`:                                      `{"action":"Allow","protocol":"TCP"}`,
		`{"action":"Allow","http":{"methods":[],"paths":[]}}`:                                `{"action":"Allow"}`,
		`{"action":"Allow","icmp":{},"protocol":"ICMP"}`:                                     `{"action":"Allow","protocol":"ICMP"}`,
		`{"action":"Deny","notICMP":{},"protocol":"ICMP"}`:                                   `{"action":"Deny","protocol":"ICMP"}`,
		`{"action":"Deny","destination":{"services":{},"ports":[],"nets":[],"notPorts":[]}}`: `{"action":"Deny"}`,
		`{"action":"Deny","source":{"namespaceSelector":"","notNets":[],"domains":[]}}`:      `{"action":"Deny"}`,
	} {
		var r, plain api.Rule
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(without), &plain); err != nil {
			t.Fatal(err)
		}
		got, problems := resolvedRule(r)
		want, _ := resolvedRule(plain)
		if diff := cmp.Diff(want, got, sameRule); diff != "" || len(problems) > 0 {
			t.Errorf("%s: %v %s", text, problems, diff)
		}
	}
}

// A match of service accounts with a name or a selector is about the policy's namespace.
func TestAMatchOfServiceAccountsIsWithinTheNamespace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		match api.ServiceAccountMatch
		want  SetID
	}{
		{api.ServiceAccountMatch{Names: []string{"bot"}}, `(projectcalico.org/namespace == "ns" && projectcalico.org/serviceaccount in {"bot"})`},
		{api.ServiceAccountMatch{Selector: "has(a)"}, `(projectcalico.org/namespace == "ns" && has(pcsa.a))`},
		{api.ServiceAccountMatch{Selector: "all()"}, `projectcalico.org/namespace == "ns"`},
	} {
		got, problems := resolvedRule(api.Rule{Action: api.Deny, Source: api.EntityRule{ServiceAccounts: &c.match}})
		if got.Source.Set != c.want || len(problems) > 0 {
			t.Errorf("%+v: set %s, want %s; %v", c.match, got.Source.Set, c.want, problems)
		}
	}
}

package api

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPoliciesOfEveryKindHaveTheSameSpec(t *testing.T) {
	t.Parallel()
	order := 5.0
	rules := []Rule{{Action: Deny}}
	inner := NetworkPolicySpec{
		Tier: "net", Order: &order, Ingress: rules, Egress: rules, Selector: "a", Types: []PolicyType{Egress},
		ServiceAccountSelector: "b", PerformanceHints: []string{"c"},
	}
	want := GlobalNetworkPolicySpec{
		Tier: "net", Order: &order, Ingress: rules, Egress: rules, Selector: "a", Types: []PolicyType{Egress},
		ServiceAccountSelector: "b", PerformanceHints: []string{"c"},
	}
	for _, o := range []Object{
		&GlobalNetworkPolicy{Spec: want}, &NetworkPolicy{Spec: inner},
		&StagedGlobalNetworkPolicy{Spec: StagedGlobalNetworkPolicySpec{StagedLearn, want}},
		&StagedNetworkPolicy{Spec: StagedNetworkPolicySpec{StagedLearn, inner}},
	} {
		spec, staged, ok := PolicyOf(o)
		if diff := cmp.Diff(want, spec); diff != "" || !ok {
			t.Errorf("%T: %s", o, diff)
		}
		if isStaged := slices.Contains([]string{"StagedGlobalNetworkPolicy", "StagedNetworkPolicy"}, typeName(o)); (staged == StagedLearn) != isStaged {
			t.Errorf("%T: staged %q", o, staged)
		}
	}
	if _, _, ok := PolicyOf(&StagedKubernetesNetworkPolicy{}); ok {
		t.Error("a policy of Kubernetes is in no tier")
	}
}

func TestDefaultsOfPoliciesOfEveryKind(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"NetworkPolicy":                 `"spec":{"tier":"default","types":["Ingress"]}}`,
		"StagedNetworkPolicy":           `"spec":{"stagedAction":"Set","tier":"default","types":["Ingress"]}}`,
		"StagedGlobalNetworkPolicy":     `"spec":{"stagedAction":"Set","tier":"default","types":["Ingress"]}}`,
		"StagedKubernetesNetworkPolicy": `"spec":{"stagedAction":"Set","podSelector":{}}}`,
		"NetworkSet":                    `"spec":{}}`,
	} {
		o, _ := New(kind)
		o.Meta().Name = "p"
		Default(o)
		text, err := Encode(o)
		if err != nil || !containsText(text, want) {
			t.Errorf("%s: %s %v, want %s", kind, text, err, want)
		}
		if err := Validate(o); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestAStagedDeletionHasNoFieldButItsTier(t *testing.T) {
	t.Parallel()
	gone := &StagedGlobalNetworkPolicy{Spec: StagedGlobalNetworkPolicySpec{StagedAction: StagedDelete}}
	gone.Name, gone.Spec.Tier, gone.Spec.Types = "p", "net", []PolicyType{Ingress}
	Default(gone)
	if err := Validate(gone); err != nil || gone.Spec.Types != nil {
		t.Errorf("%v %+v", err, gone.Spec)
	}
	gone.Spec.Selector = "all()"
	if Validate(gone) == nil {
		t.Error("a deletion with a selector is accepted")
	}
}

func containsText(text []byte, part string) bool {
	return len(text) >= len(part) && string(text[len(text)-len(part):]) == part
}

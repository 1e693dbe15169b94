package calc

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

// composed combines a policy's selectors as the reference does, on their texts; the labels are role and env. From libcalico-go,
// lib/backend/syncersv1/updateprocessors/{global,}networkpolicyprocessor.go.
func composed(s selectors, namespace string) string {
	text := s.endpoints
	appendPrefixed := func(more, prefix string) {
		more = strings.NewReplacer("role", prefix+"role", "env", prefix+"env").Replace(canonical(more))
		if text != "" {
			more = fmt.Sprintf("(%s) && (%s)", text, more)
		}
		text = more
	}
	if s.namespaces != "" {
		appendPrefixed(s.namespaces, prefixNamespace)
		text = strings.ReplaceAll(text, "all()", "has("+labelNamespace+")")
	}
	if s.serviceAccounts != "" {
		appendPrefixed(s.serviceAccounts, prefixServiceAccount)
		if namespace == "" {
			text = strings.ReplaceAll(text, "all()", "has("+labelServiceAccount+")")
		}
	}
	if namespace == "" {
		return text
	}
	own := fmt.Sprintf("%s == '%s'", labelNamespace, namespace)
	if text == "" {
		return own
	}
	return fmt.Sprintf("(%s) && %s", text, own)
}

func canonical(text string) string {
	s, err := selector.Parse(text)
	if err != nil {
		panic(err)
	}
	return s.String()
}

// labelSets are the labels of hosts, and of workloads with and without a service account.
func labelSets() (all []selector.Map) {
	for _, own := range []selector.Map{{}, {"role": "a"}, {"role": "b", "env": "a"}} {
		for _, dialect := range []selector.Map{
			{}, {labelNamespace: "ns"}, {labelNamespace: "other", "pcns.role": "a"},
			{labelNamespace: "ns", labelServiceAccount: "bot"},
			{labelNamespace: "ns", labelServiceAccount: "bot", "pcns.env": "a", "pcsa.role": "a"},
			{labelNamespace: "ns", labelServiceAccount: "bot", "pcsa.role": "b", "pcsa.env": "a"},
		} {
			entity := maps.Clone(own)
			maps.Copy(entity, dialect)
			all = append(all, entity)
		}
	}
	return all
}

func TestAPolicySelectsAsTheReferenceDoes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	terms := []string{"all()", "!all()", "role == 'a'", "role != 'a'", "has(role)", "!has(env)", "env in {'a', 'b'}", "env not in {'a'}"}
	text := func() string {
		a, b := terms[random.IntN(len(terms))], terms[random.IntN(len(terms))]
		return []string{"", a, a, a + " && " + b, a + " || " + b, "(" + a + " || " + b + ") && " + a}[random.IntN(6)]
	}
	for range 3000 {
		s := selectors{text(), text(), text()}
		for _, namespace := range []string{"", "ns"} {
			if namespace != "" {
				s.namespaces = "" // a NetworkPolicy has none
			}
			got, err := s.within(namespace)
			if err != nil {
				t.Fatal(err)
			}
			want, err := selector.Parse(composed(s, namespace))
			if err != nil {
				t.Fatalf("%+v: %v", s, err)
			}
			for _, entity := range labelSets() {
				if got.Matches(entity) != want.Matches(entity) {
					t.Fatalf("seed %d: %+v in namespace %q: %s selects %v: %v, the reference's %s: %v",
						seed, s, namespace, got, entity, got.Matches(entity), want, want.Matches(entity))
				}
			}
		}
	}
}

// With a serviceAccountSelector, all() of a GlobalNetworkPolicy selects only endpoints with a service account, so never a host.
func TestAServiceAccountSelectorLeavesHostsAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		namespace string
		selectors
		want string
	}{
		{"", selectors{serviceAccounts: "all()"}, "has(projectcalico.org/serviceaccount)"},
		{"", selectors{endpoints: "all()", serviceAccounts: "role != 'db'"}, `(has(projectcalico.org/serviceaccount) && pcsa.role != "db")`},
		{"", selectors{"all()", "all()", "all()"},
			"(has(projectcalico.org/namespace) && has(projectcalico.org/namespace) && has(projectcalico.org/serviceaccount))"},
		{"ns", selectors{endpoints: "all()", serviceAccounts: "all()"}, `projectcalico.org/namespace == "ns"`},
		{"", selectors{endpoints: "!all() || has(a)", serviceAccounts: "has(b)"},
			"((!has(projectcalico.org/serviceaccount) || has(a)) && has(pcsa.b))"},
	} {
		got, err := c.within(c.namespace)
		if err != nil || got.String() != c.want {
			t.Errorf("%+v: %v %v, want %s", c.selectors, got, err, c.want)
		}
	}
	rules := criteria{namespace: "ns"}
	in, _, err := rules.selectors(api.EntityRule{ServiceAccounts: &api.ServiceAccountMatch{Selector: "all()"}})
	if want := `projectcalico.org/namespace == "ns"`; err != nil || in.String() != want {
		t.Errorf("in a rule all() of serviceAccounts.selector is as written: got %v %v, want %s", in, err, want)
	}
}

func TestAPolicyForServiceAccountsIsNotInForceOnAHost(t *testing.T) {
	t.Parallel()
	objects := func(spec api.GlobalNetworkPolicySpec) (updates []api.Update) {
		spec.Types = []api.PolicyType{api.Ingress, api.Egress}
		for _, o := range []api.Object{
			&api.GlobalNetworkPolicy{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkPolicy}, Metadata: api.Metadata{Name: "p"}, Spec: spec},
			&api.HostEndpoint{TypeMeta: api.TypeMeta{Kind: api.KindHostEndpoint}, Metadata: api.Metadata{Name: "eth0"},
				Spec: api.HostEndpointSpec{Node: "n1", InterfaceName: "eth0"}},
			&api.WorkloadEndpoint{TypeMeta: api.TypeMeta{Kind: api.KindWorkloadEndpoint}, Metadata: api.Metadata{Name: "n1-vm-a-eth0", Namespace: "ns"},
				Spec: api.WorkloadEndpointSpec{Node: "n1", InterfaceName: "cali1", ServiceAccountName: "bot", IPNetworks: []string{"10.65.0.1"}}},
		} {
			updates = append(updates, api.Update{Key: api.KeyOf(o), Object: o})
		}
		return updates
	}
	for name, spec := range map[string]api.GlobalNetworkPolicySpec{
		"all service accounts":    {ServiceAccountSelector: "all()", Ingress: []api.Rule{{Action: api.Allow}}},
		"all but one":             {Selector: "all()", ServiceAccountSelector: "role != 'db'", Ingress: []api.Rule{{Action: api.Deny}}},
		"all endpoints, any one":  {Selector: "all()", ServiceAccountSelector: "all()"},
		"one that has no account": {Selector: "all()", ServiceAccountSelector: "!has(role)"},
	} {
		state := Compute("n1", Facts{}, objects(spec))
		if got := state.Endpoints[EndpointID{Kind: api.KindHostEndpoint, Name: "eth0"}].Policies[Normal][Egress]; len(got) > 1 {
			t.Errorf("%s: in force on a host: %v", name, got)
		}
		vm := state.Endpoints[EndpointID{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: "n1-vm-a-eth0"}].Policies[Normal][Egress]
		if diff := cmp.Diff([]TierPolicies{{Tier: "default", Policies: []PolicyID{{Kind: api.KindGlobalNetworkPolicy, Name: "p"}}}}, vm); diff != "" {
			t.Errorf("%s: at the workload: %s", name, diff)
		}
	}
}

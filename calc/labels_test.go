package calc

import (
	"testing"

	"github.com/margay-project/margay/api"
)

// A label that has the meaning of a field counts only if the field is empty: older versions of Calico wrote the service account as a label
// only. Labels of namespaces and service accounts come from profiles only.
func TestFieldsOverrideTheLabelsOfAWorkload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		spec        api.WorkloadEndpointSpec
		own         map[string]string
		label, want string // want empty: there is no such label
	}{
		{"service account in the label alone", api.WorkloadEndpointSpec{}, map[string]string{labelServiceAccount: "bot"}, labelServiceAccount, "bot"},
		{"service account in the field alone", api.WorkloadEndpointSpec{ServiceAccountName: "bot"}, nil, labelServiceAccount, "bot"},
		{"field and label differ", api.WorkloadEndpointSpec{ServiceAccountName: "bot"}, map[string]string{labelServiceAccount: "root"}, labelServiceAccount, "bot"},
		{"no service account", api.WorkloadEndpointSpec{}, nil, labelServiceAccount, ""},
		{"orchestrator in the label alone", api.WorkloadEndpointSpec{}, map[string]string{labelOrchestrator: "vm"}, labelOrchestrator, "vm"},
		{"orchestrator in field and label", api.WorkloadEndpointSpec{Orchestrator: "vm"}, map[string]string{labelOrchestrator: "x"}, labelOrchestrator, "vm"},
		{"no orchestrator", api.WorkloadEndpointSpec{}, nil, labelOrchestrator, ""},
		{"another namespace", api.WorkloadEndpointSpec{}, map[string]string{labelNamespace: "other"}, labelNamespace, "ns"},
		{"a namespace's label", api.WorkloadEndpointSpec{}, map[string]string{"pcns.env": "prod"}, "pcns.env", ""},
		{"a service account's label", api.WorkloadEndpointSpec{}, map[string]string{"pcsa.role": "db"}, "pcsa.role", ""},
		{"begins alike", api.WorkloadEndpointSpec{}, map[string]string{"pcns": "a"}, "pcns", "a"},
		{"of the project, of no meaning", api.WorkloadEndpointSpec{}, map[string]string{"projectcalico.org/pod": "a"}, "projectcalico.org/pod", "a"},
		{"of its own", api.WorkloadEndpointSpec{}, map[string]string{"role": "db"}, "role", "db"},
	} {
		c.spec.Node, c.spec.InterfaceName, c.spec.IPNetworks = "n1", "cali1", []string{"10.65.0.1"}
		w := &api.WorkloadEndpoint{TypeMeta: api.TypeMeta{Kind: api.KindWorkloadEndpoint}, Spec: c.spec,
			Metadata: api.Metadata{Name: "n1-vm-a-eth0", Namespace: "ns", Labels: c.own}}
		g := New("n1", Facts{})
		g.Update(api.Update{Key: api.KeyOf(w), Object: w})
		g.Flush()
		id, there := g.entities.find(api.KeyOf(w))
		got, has := g.entities.labelsOf(id).Get(c.label)
		if !there || got != c.want || has != (c.want != "") {
			t.Errorf("%s: label %s is %q (%v), want %q", c.name, c.label, got, has, c.want)
		}
	}
}

func TestPoliciesSeeAServiceAccountThatIsOnlyALabel(t *testing.T) {
	t.Parallel()
	var updates []api.Update
	for _, o := range []api.Object{
		&api.WorkloadEndpoint{TypeMeta: api.TypeMeta{Kind: api.KindWorkloadEndpoint},
			Metadata: api.Metadata{Name: "n1-vm-a-eth0", Namespace: "ns", Labels: map[string]string{labelServiceAccount: "bot"}},
			Spec:     api.WorkloadEndpointSpec{Node: "n1", InterfaceName: "cali1", IPNetworks: []string{"10.65.0.1"}}},
		&api.GlobalNetworkPolicy{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkPolicy}, Metadata: api.Metadata{Name: "p"},
			Spec: api.GlobalNetworkPolicySpec{ServiceAccountSelector: "all()", Ingress: []api.Rule{
				{Action: api.Deny, Source: api.EntityRule{ServiceAccounts: &api.ServiceAccountMatch{Names: []string{"bot"}}}}}}},
	} {
		updates = append(updates, api.Update{Key: api.KeyOf(o), Object: o})
	}
	state := Compute("n1", Facts{}, updates)
	if got := state.Endpoints[EndpointID{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: "n1-vm-a-eth0"}].Policies[Normal][Ingress]; len(got) != 1 {
		t.Errorf("the policy does not select the endpoint: %v", got)
	}
	for set, members := range state.Sets {
		if len(members) != 1 {
			t.Errorf("set %s has the members %v, want the endpoint's address", set, members)
		}
	}
	if len(state.Sets) != 1 {
		t.Errorf("want one set, got %v", state.Sets)
	}
}

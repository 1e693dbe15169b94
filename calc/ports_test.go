package calc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

func namedPortWorld(endpoints int) (updates []api.Update) {
	add := func(kind string, o api.Object) {
		o.Type().Kind = kind
		updates = append(updates, api.Update{Key: api.KeyOf(o), Object: o})
	}
	for n := range endpoints {
		add(api.KindWorkloadEndpoint, &api.WorkloadEndpoint{
			Metadata: api.Metadata{Name: fmt.Sprintf("n1-vm-%d-eth0", n), Namespace: "ns"},
			Spec: api.WorkloadEndpointSpec{
				Node: "n1", InterfaceName: fmt.Sprint("cali", n), IPNetworks: []string{fmt.Sprintf("10.65.1.%d", n)},
				Ports: []api.WorkloadPort{{Name: "app", Protocol: api.Protocol{Name: "TCP"}, Port: uint16(1000 + n)}},
			},
		})
	}
	app := api.EntityRule{Ports: []api.Port{{Name: "app"}}}
	add(api.KindGlobalNetworkPolicy, &api.GlobalNetworkPolicy{Metadata: api.Metadata{Name: "p"}, Spec: api.GlobalNetworkPolicySpec{
		Ingress: []api.Rule{{Action: api.Allow, Destination: app}, {Action: api.Deny, Destination: app}},
	}})
	return updates
}

// The number of combinations of named ports is bounded. A rule beyond the bound allows nothing that was not meant, and a problem says so.
func TestTooManyPortsOfOneNameNeverAllow(t *testing.T) {
	t.Parallel()
	g, folded := New("n1", Facts{}), &State{}
	for _, n := range []int{maxVariants, maxVariants + 1, maxVariants} {
		updates := namedPortWorld(n)
		if n == maxVariants {
			updates = append(updates, api.Update{Key: api.Key{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: fmt.Sprintf("n1-vm-%d-eth0", n)}})
		}
		for _, u := range updates {
			g.Update(u)
		}
		folded.Fold(g.Flush())
		if diff := differences(Compute("n1", Facts{}, updates), folded, true); diff != "" {
			t.Fatal(diff)
		}
		rules := folded.Policies[PolicyID{Kind: api.KindGlobalNetworkPolicy, Name: "p"}].Ingress
		beyond := n > maxVariants
		if rules[0].Never != beyond || (rules[1].Destination.Names == nil) != beyond || rules[1].Never {
			t.Errorf("%d ports: %v; %v", n, rules[0], rules[1])
		}
		if found := strings.Contains(folded.Text(), "its named ports expand to 129 combinations"); found != beyond {
			t.Errorf("%d ports: a problem: %v", n, found)
		}
	}
}

// An endpoint whose named port has a number that others have already becomes a member of a set, and no rule changes.
func TestAnEndpointWithAKnownPortChangesNoRule(t *testing.T) {
	t.Parallel()
	g := New("n1", Facts{})
	for _, u := range namedPortWorld(3) {
		g.Update(u)
	}
	g.Flush()
	another := &api.WorkloadEndpoint{Metadata: api.Metadata{Name: "n2-vm-x-eth0", Namespace: "ns"}, Spec: api.WorkloadEndpointSpec{
		Node: "n2", InterfaceName: "cali9", IPNetworks: []string{"10.65.9.9"},
		Ports: []api.WorkloadPort{{Name: "app", Protocol: api.Protocol{Number: 6}, Port: 1001}},
	}}
	u := api.Update{Key: api.Key{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: "n2-vm-x-eth0"}, Object: another}
	g.Update(u)
	if d := g.Flush(); len(d.Policies) > 0 || len(d.Sets) != 1 {
		t.Errorf("policies %v, sets %v", d.Policies, d.Sets)
	}
	u.Object = nil
	g.Update(u)
	if d := g.Flush(); len(d.Policies) > 0 || len(d.Sets) != 1 {
		t.Errorf("policies %v, sets %v", d.Policies, d.Sets)
	}
}

package calc

import (
	"testing"

	"github.com/margay-project/margay/api"
)

// A policy that is patched while it is active is parsed once: it is neither packed nor unpacked. It is packed when it is no longer
// active, and when it is patched then.
func TestActivePolicyIsNotPacked(t *testing.T) {
	key := api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "p"}
	policy := func(action api.Action, tier string) api.Update {
		return api.Update{Key: key, Object: &api.GlobalNetworkPolicy{Spec: api.GlobalNetworkPolicySpec{
			Tier: tier, Selector: "has(role)", Ingress: []api.Rule{{Action: action, Source: api.EntityRule{Selector: "role == 'a'"}}},
		}}}
	}
	endpoint := api.Update{Key: api.Key{Kind: api.KindHostEndpoint, Name: "h"}, Object: &api.HostEndpoint{
		Metadata: api.Metadata{Name: "h", Labels: map[string]string{"role": "a"}},
		Spec:     api.HostEndpointSpec{Node: "n1", InterfaceName: "eth0"},
	}}
	g, folded, history := New("n1", Facts{}), &State{}, []api.Update(nil)
	for step, c := range []struct {
		change         api.Update
		packed, active bool
	}{
		{policy(api.Allow, ""), true, false},
		{endpoint, true, true}, // unpacked, so both forms are there
		{policy(api.Deny, ""), false, true},
		{policy(api.Deny, "t1"), false, true},
		{api.Update{Key: endpoint.Key}, true, false},
		{policy(api.Allow, "t1"), true, false},
		{endpoint, true, true},
	} {
		g.Update(c.change)
		history = append(history, c.change)
		folded.Fold(g.Flush())
		k := g.policies[printOf(g.prints, key)]
		if packed, read := k.packed != "", k.read != nil; packed != c.packed || read != c.active {
			t.Errorf("step %d: packed %v, read %v; want %v, %v", step, packed, read, c.packed, c.active)
		}
		if diff := differences(Compute("n1", Facts{}, history), folded, true); diff != "" {
			t.Errorf("step %d: Compute (-) and Graph (+) differ:\n%s", step, diff)
		}
	}
}

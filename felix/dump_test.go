package main

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/calc"
)

// A dump always counts the policies that apply to no endpoint of this node. It lists them on demand, without endpoints.
func TestADumpCountsAndListsPoliciesWithoutEndpoints(t *testing.T) {
	t.Parallel()
	g := calc.New("n1", calc.Facts{})
	for _, o := range []api.Object{
		&api.HostEndpoint{Metadata: api.Metadata{Name: "n1-eth0", Labels: map[string]string{"role": "host"}}, Spec: api.HostEndpointSpec{Node: "n1", InterfaceName: "eth0"}},
		&api.GlobalNetworkPolicy{Metadata: api.Metadata{Name: "host"}, Spec: api.GlobalNetworkPolicySpec{Selector: "role == 'host'"}},
		&api.GlobalNetworkPolicy{Metadata: api.Metadata{Name: "typo"}, Spec: api.GlobalNetworkPolicySpec{
			Selector: "role == 'hsot'", Order: new(float64(7)), Ingress: []api.Rule{{Action: api.Allow}, {Action: api.Deny}}}},
	} {
		api.Default(o)
		g.Update(api.Update{Key: api.KeyOf(o), Object: o})
	}
	g.Flush()
	a, counted, listed := &agent{graph: g}, &agentv1.DumpResponse{}, &agentv1.DumpResponse{}
	a.dumpIdlePolicies(false, counted)
	a.dumpIdlePolicies(true, listed)
	if counted.GetIdlePolicies() != 1 || len(counted.Policies) != 0 {
		t.Errorf("counted: %s", protojson.Format(counted))
	}
	if p := listed.Policies; len(p) != 1 || p[0].Name != "typo" || p[0].Tier != "default" || p[0].Order != "7" || p[0].IngressRules != 2 || p[0].Endpoints != 0 {
		t.Errorf("listed: %s", protojson.Format(listed))
	}
}

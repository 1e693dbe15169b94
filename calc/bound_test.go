package calc

import (
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

// The kernel goes on only so often; an endpoint whose policies ask for more is closed, says so, and opens again.
func TestTooManyLogsCloseTheEndpoint(t *testing.T) {
	t.Parallel()
	endpoint := &api.WorkloadEndpoint{Metadata: api.Metadata{Name: "n1-vm-a-eth0", Namespace: "ns"}, Spec: api.WorkloadEndpointSpec{
		Node: "n1", InterfaceName: "cali1", IPNetworks: []string{"10.65.0.1"}, Profiles: []string{"logging"},
	}}
	profile := func(logs int) api.Update {
		p := &api.Profile{Metadata: api.Metadata{Name: "logging"}}
		for range logs {
			p.Spec.Ingress = append(p.Spec.Ingress, api.Rule{Action: api.Log})
		}
		return api.Update{Key: api.Key{Kind: kindProfile, Name: "logging"}, Object: p}
	}
	policy := func(logs int) api.Update {
		p := &api.GlobalNetworkPolicy{Metadata: api.Metadata{Name: "p"}}
		for range logs {
			p.Spec.Ingress = append(p.Spec.Ingress, api.Rule{Action: api.Log})
		}
		p.Spec.Ingress = append(p.Spec.Ingress, api.Rule{Action: api.Pass}, api.Rule{Action: api.Deny})
		return api.Update{Key: api.Key{Kind: kindGlobalPolicy, Name: "p"}, Object: p}
	}
	objects := []api.Update{{Key: api.Key{Kind: kindWorkload, Namespace: "ns", Name: endpoint.Name}, Object: endpoint}}
	g, folded := New("n1", Facts{}), &State{}
	const most = MaxContinuations
	for _, step := range []struct {
		policy, profile int
		closed          bool
	}{
		{most - 3, 2, false}, {most - 3, 3, true}, {most - 3, 2, false}, {most, 0, true}, {most, 3, true}, {0, most - 1, false},
	} {
		updates := append(objects[:1:1], profile(step.profile), policy(step.policy))
		for _, u := range updates {
			g.Update(u)
		}
		folded.Fold(g.Flush())
		if diff := differences(Compute("n1", Facts{}, updates), folded, true); diff != "" {
			t.Fatal(diff)
		}
		e := folded.Endpoints[EndpointID{Kind: kindWorkload, Namespace: "ns", Name: endpoint.Name}]
		reported := strings.Contains(folded.Text(), "so it is closed: use fewer rules with the actions Log and Pass")
		if (e.Closed != "") != step.closed || reported != step.closed || (len(folded.Routes) == 0) != step.closed {
			t.Errorf("%+v: closed %q, reported %v, routes %v", step, e.Closed, reported, folded.Routes)
		}
	}
}

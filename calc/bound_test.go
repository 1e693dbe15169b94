package calc

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/margay-project/margay/api"
)

// A search in the kernel goes on at most MaxContinuations times. An endpoint whose policies may do it more often is closed with a problem,
// and opens again.
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
		return api.Update{Key: api.Key{Kind: api.KindProfile, Name: "logging"}, Object: p}
	}
	policy := func(logs int) api.Update {
		p := &api.GlobalNetworkPolicy{Metadata: api.Metadata{Name: "p"}}
		for range logs {
			p.Spec.Ingress = append(p.Spec.Ingress, api.Rule{Action: api.Log})
		}
		p.Spec.Ingress = append(p.Spec.Ingress, api.Rule{Action: api.Pass}, api.Rule{Action: api.Deny})
		return api.Update{Key: api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "p"}, Object: p}
	}
	objects := []api.Update{{Key: api.Key{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: endpoint.Name}, Object: endpoint}}
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
		e := folded.Endpoints[EndpointID{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: endpoint.Name}]
		reported := strings.Contains(folded.Text(), "so it is closed: use fewer rules with the actions Log and Pass")
		if (e.Closed != "") != step.closed || reported != step.closed || (len(folded.Routes) == 0) != step.closed {
			t.Errorf("%+v: closed %q, reported %v, routes %v", step, e.Closed, reported, folded.Routes)
		}
	}
}

// The classifier has room for MaxSlots rules. An endpoint whose policies have more is closed with a problem, and opens again. Other
// endpoints with some of these policies stay open.
func TestTooManyRulesCloseTheEndpoint(t *testing.T) {
	t.Parallel()
	endpoint := func(name string, labels map[string]string) api.Update {
		return api.Update{Key: api.Key{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: "n1-vm-" + name + "-eth0"}, Object: &api.WorkloadEndpoint{
			Metadata: api.Metadata{Name: "n1-vm-" + name + "-eth0", Namespace: "ns", Labels: labels},
			Spec:     api.WorkloadEndpointSpec{Node: "n1", InterfaceName: "cali" + name, IPNetworks: []string{"10.65.0." + name}, Profiles: []string{"some"}},
		}}
	}
	rules := make([]api.Rule, 1024)
	for i := range rules {
		rules[i] = api.Rule{Action: api.Deny}
	}
	updates := []api.Update{endpoint("1", map[string]string{"role": "all"}), endpoint("2", map[string]string{"role": "few"})}
	for i := range MaxSlots/len(rules) + 1 {
		key := api.Key{Kind: api.KindGlobalNetworkPolicy, Name: fmt.Sprint("p", i)}
		p := &api.GlobalNetworkPolicy{Metadata: api.Metadata{Name: key.Name}}
		p.Spec.Selector = "role == 'all'"
		if i == 0 {
			p.Spec.Selector = "has(role)"
		}
		if i == 1 {
			p.Spec.Types = []api.PolicyType{api.Egress}
			p.Spec.Egress = rules
		} else {
			p.Spec.Ingress = rules
		}
		updates = append(updates, api.Update{Key: key, Object: p})
	}
	profile := func(rules []api.Rule) api.Update {
		p := &api.Profile{Metadata: api.Metadata{Name: "some"}, Spec: api.ProfileSpec{Ingress: rules}}
		return api.Update{Key: api.Key{Kind: api.KindProfile, Name: "some"}, Object: p}
	}
	last := updates[len(updates)-1]
	gone := last
	gone.Object = nil
	g, folded := New("n1", Facts{}), &State{}
	apply := func(changes []api.Update, now []api.Update, closed bool) {
		t.Helper()
		for _, u := range changes {
			g.Update(u)
		}
		folded.Fold(g.Flush())
		want := Compute("n1", Facts{}, now)
		if diff := cmp.Diff(want.Endpoints, folded.Endpoints, cmpopts.EquateComparable(netip.Addr{})) + cmp.Diff(want.Problems, folded.Problems); diff != "" {
			t.Fatal(diff)
		}
		reported := false
		for p := range folded.Problems {
			reported = reported || strings.HasSuffix(p.Text, "at most 131072 are supported, so it is closed: put addresses and ports that are treated alike into one rule")
		}
		first := folded.Endpoints[EndpointID{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: "n1-vm-1-eth0"}]
		other := folded.Endpoints[EndpointID{Kind: api.KindWorkloadEndpoint, Namespace: "ns", Name: "n1-vm-2-eth0"}]
		if (first.Closed != "") != closed || reported != closed || other.Closed != "" {
			t.Errorf("closed %q and %q, reported %v, should be %v", first.Closed, other.Closed, reported, closed)
		}
	}
	without := updates[:len(updates)-1]
	apply(append(without[:len(without):len(without)], profile(nil)), append(without[:len(without):len(without)], profile(nil)), false)
	apply([]api.Update{last}, append(updates[:len(updates):len(updates)], profile(nil)), true)
	apply([]api.Update{gone}, append(without[:len(without):len(without)], profile(nil)), false)
	apply([]api.Update{profile(rules[:1])}, append(without[:len(without):len(without)], profile(rules[:1])), true)
	apply([]api.Update{profile(nil)}, append(without[:len(without):len(without)], profile(nil)), false)
}

// A policy that judges a host endpoint at several stages needs the slots of its rules once.
func TestRulesOfSeveralStagesCountOnce(t *testing.T) {
	t.Parallel()
	rules := make([]api.Rule, 1024)
	for i := range rules {
		rules[i] = api.Rule{Action: api.Deny}
	}
	id, other := EndpointID{Kind: api.KindHostEndpoint, Name: "host"}, EndpointID{Kind: api.KindHostEndpoint, Name: "other"}
	host := func(id EndpointID, device, role string) api.Update {
		return api.Update{Key: id.key(), Object: &api.HostEndpoint{
			Metadata: api.Metadata{Name: id.Name, Labels: map[string]string{"role": role}},
			Spec:     api.HostEndpointSpec{Node: "n1", InterfaceName: device},
		}}
	}
	updates := []api.Update{host(id, "eth0", "few"), host(other, "eth1", "many")}
	for i := range MaxSlots/len(rules) + 1 {
		p := &api.GlobalNetworkPolicy{Metadata: api.Metadata{Name: fmt.Sprint("p", i)}}
		p.Spec = api.GlobalNetworkPolicySpec{ApplyOnForward: true, Ingress: rules}
		if i < 2 {
			p.Spec.Selector = "role == 'many'"
		}
		updates = append(updates, api.Update{Key: api.Key{Kind: api.KindGlobalNetworkPolicy, Name: p.Name}, Object: p})
	}
	g, folded := New("n1", Facts{}), &State{}
	for _, u := range updates {
		g.Update(u)
	}
	folded.Fold(g.Flush())
	for what, endpoints := range map[string]map[EndpointID]Endpoint{
		"incremental": folded.Endpoints, "from scratch": Compute("n1", Facts{}, updates).Endpoints,
	} {
		e := endpoints[id]
		if e.Policies[Normal][Ingress] == nil || e.Policies[Forward][Ingress] == nil {
			t.Fatalf("%s: the policies do not judge at both stages", what)
		}
		if e.Closed != "" || endpoints[other].Closed == "" {
			t.Errorf("%s: closed %q and %q, should be none and the other", what, e.Closed, endpoints[other].Closed)
		}
	}
}

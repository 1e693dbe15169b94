package main

import (
	"io"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane"
	"github.com/margay-project/margay/dataplane/bgp/process"
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

// Without an answer of the BGP process, a dump has the other tables, and says which ones are missing.
func TestADumpNamesTheTablesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	speaker := process.New(process.Options{Log: quiet(), Stderr: io.Discard, Command: func() *exec.Cmd { return exec.Command("false") }})
	defer speaker.Close()
	a := &agent{
		settings: &settings{nodeName: "n1"}, graph: calc.New("n1", calc.Facts{}), driver: &dataplane.Driver{}, speaker: speaker,
	}
	a.state.Fold(a.graph.Flush())
	questions := make(chan func(*agent))
	go func() {
		for question := range questions {
			question(a)
		}
	}()
	defer close(questions)
	tables := []string{dataplane.TableRules, announcements, received}
	response, err := (&server{questions: questions}).Dump(t.Context(), &agentv1.DumpRequest{Tables: tables})
	must(t, err)
	var missing []string
	for _, u := range response.Unread {
		if u.Reason == "" {
			t.Errorf("%s: no reason", u.Table)
		}
		missing = append(missing, u.Table)
	}
	if diff := cmp.Diff([]string{announcements, received}, missing); diff != "" || response.Node != "n1" {
		t.Errorf("%s\n%s", diff, protojson.Format(response))
	}
}

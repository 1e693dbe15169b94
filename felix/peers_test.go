package main

import (
	"fmt"
	"strings"
	"testing"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

func TestMeshSessionsThatAreDownAreOneProblem(t *testing.T) {
	mesh := func(up, down int) (peers []*agentv1.Peer) {
		for i := range up + down {
			p := &agentv1.Peer{Name: fmt.Sprintf("mesh with rack%d", i), Address: fmt.Sprintf("10.0.0.%d", i), Type: meshType, State: "established"}
			if i >= up {
				p.State = "active"
			}
			peers = append(peers, p)
		}
		return append(peers, &agentv1.Peer{Name: "tor", Type: "global", State: "idle"})
	}
	if got := meshProblem(mesh(3, 0)); len(got) != 0 {
		t.Errorf("all are up: %v", got)
	}
	for _, c := range []struct {
		up, down int
		want     []string
		not      string
	}{
		{2, 1, []string{"1 of 3 sessions of the mesh are not established: with rack2 at 10.0.0.2.", "delete its Node"}, "tor"},
		{0, 8, []string{"8 of 8 sessions", "rack0 at", "rack4 at 10.0.0.4 and 3 more."}, "rack5"},
	} {
		got := meshProblem(mesh(c.up, c.down))
		if len(got) != 1 {
			t.Fatalf("%d problems", len(got))
		}
		for _, part := range c.want {
			if !strings.Contains(got[0].Text, part) {
				t.Errorf("%q does not contain %q", got[0].Text, part)
			}
		}
		if strings.Contains(got[0].Text, c.not) {
			t.Errorf("%q contains %q", got[0].Text, c.not)
		}
	}
}

package classifier

import (
	"slices"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

func TestAWriteThatFailsForHoursIsNotedOnce(t *testing.T) {
	t.Parallel()
	n := newNode(t, medium)
	s := fleet(1, 3, 1)
	n.become(t, s)
	id := calc.EndpointID{Kind: "WorkloadEndpoint", Name: "endpoint-0"}
	before := n.entries[id]
	changed := change(s, func(s *calc.State) {
		for id, p := range s.Policies {
			p.Ingress, p.Egress = slices.Clone(p.Ingress), slices.Clone(p.Egress)
			p.Ingress = append(p.Ingress, calc.Rule{Action: api.Deny, V4: true, V6: true})
			s.Policies[id] = p
		}
	})
	delta := calc.Diff(s, changed)
	for range 100 {
		commit, err := n.Apply(&delta)
		if _, again := commit.Endpoints[id]; err != nil || !again {
			t.Fatalf("%v %+v", err, commit)
		}
		if err := n.Reuse(n.Sweep(id)); err != nil {
			t.Fatal(err)
		}
		delta = calc.Delta{}
	}
	if e := n.endpoints[id]; len(e.uncertain) != 1 {
		t.Errorf("%d notes", len(e.uncertain))
	}
	n.Sweep(id)
	commit, err := n.Apply(&calc.Delta{})
	if err != nil || commit.Endpoints[id] == before {
		t.Fatalf("%v %+v", err, commit)
	}
	if err := n.Reuse(n.Sweep()); err != nil {
		t.Fatal(err)
	}
	for m := range n.masks.all {
		if m.refs == 0 {
			t.Error("a mask that nobody has is still there")
		}
	}
}

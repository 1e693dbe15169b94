package classifier

import (
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier/classifiertest"
)

// A generation has room for new versions of all its rules beside the old ones.
func TestSizesHaveRoomForEveryRuleAgain(t *testing.T) {
	t.Parallel()
	for _, shape := range []struct{ policies, rules int }{{1, 1000}, {10, 300}, {1000, 1}, {200, 5}} {
		s := fleet(shape.policies, shape.rules, 3)
		sizes, err := SizesFor(s)
		if err != nil {
			t.Fatal(err)
		}
		n := newNode(t, sizes)
		n.become(t, s)
		next := change(s, func(s *calc.State) {
			for id, p := range s.Policies {
				p.Ingress = append([]calc.Rule(nil), p.Ingress...)
				for i := range p.Ingress {
					p.Ingress[i] = fleetRule(50000 + i*7)
					p.Ingress[i].Action = api.Deny
				}
				s.Policies[id] = p
			}
		})
		if _, err := n.Apply(classifiertest.Diff(s, next)); err != nil {
			t.Errorf("%+v with %+v: %v", shape, sizes, err)
		}
	}
}

// Rules may change many times before the old ones are freed.
func TestManyChangesFitBeforeReuse(t *testing.T) {
	t.Parallel()
	s := fleet(10, 100, 3)
	sizes, err := SizesFor(s)
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, sizes)
	n.become(t, s)
	r := random(t, 0)
	p := s.Policies[policyID("policy-00003")]
	for i := range 50 {
		p.Ingress = append([]calc.Rule(nil), p.Ingress...)
		p.Ingress[r.IntN(100)] = fleetRule(60000 + i)
		next := change(n.state, func(s *calc.State) { s.Policies[p.ID] = p })
		commit, err := n.Apply(classifiertest.Diff(n.state, next))
		if err != nil {
			t.Fatalf("change %d: %v", i, err)
		}
		n.flip(commit)
		n.Sweep()
		n.state = next
		n.check(t, r, 5)
	}
	moved, _ := n.Use()
	t.Logf("%d slots for 1,000 rules after 50 changes", moved)
}

// Status shows this error. It must not promise a larger table where none can be built.
func TestTheErrorOfAFullTableSaysWhetherALargerOneFollows(t *testing.T) {
	for _, table := range []string{"slots", "vectors", "chunks", "hosts", "nets"} {
		full := &ErrFull{What: table, Size: limitOf(table)}
		if _, is := Limits().Larger(full); is || !strings.HasSuffix(full.Error(), ": remove some rules") {
			t.Errorf("at the limit, larger %v: %v", is, full)
		}
		full.Size--
		if _, is := (Sizes{1, 1, 1, 1, 1}).Larger(full); !is || !strings.HasSuffix(full.Error(), ": felix builds a larger one") {
			t.Errorf("below the limit, larger %v: %v", is, full)
		}
	}
}

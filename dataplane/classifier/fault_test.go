package classifier

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier/classifiertest"
)

// Some writes to the address tables fail, and some writes of interface entries. Until they succeed, each packet is judged
// by the policy that was last committed for its endpoint, or by the new one, never by a part of it.
func TestFailedWritesKeepWhatWasCommitted(t *testing.T) {
	t.Parallel()
	failed, held := 0, 0
	for i := range 120 * *rounds {
		r := random(t, i)
		n := newNode(t, small)
		o := classifiertest.Options{}
		n.become(t, classifiertest.RandomState(r, o))
		for range 5 {
			next := classifiertest.Change(r, n.state, o)
			n.fail = func() bool { return r.IntN(4) == 0 }
			commit, err := n.Apply(classifiertest.Diff(n.state, next))
			if err != nil {
				failed++
			}
			held += len(commit.Held)
			from := n.state
			committed(t, r, n, commit, from, next)
			heal(t, r, n, from, next)
		}
	}
	t.Logf("%d changes failed in part, %d endpoints were held", failed, held)
}

// committed writes some of the entries of a commit.
func committed(t *testing.T, r *rand.Rand, n *node, commit Commit, from, next *calc.State) {
	t.Helper()
	between(t, r, n, from, next, anywhere)
	var bad []calc.EndpointID
	for id, m := range commit.Endpoints {
		if r.IntN(3) == 0 {
			bad = append(bad, id)
			continue
		}
		n.entries[id] = m
	}
	for _, id := range commit.Gone {
		if r.IntN(3) == 0 {
			bad = append(bad, id)
			continue
		}
		delete(n.entries, id)
	}
	round := n.Sweep(bad...)
	for range 4 {
		between(t, r, n, from, next, anywhere)
	}
	_ = n.Reuse(round) // its writes may fail too, and are tried again
	for range 4 {
		between(t, r, n, from, next, anywhere)
	}
}

// heal applies again without a change, so that failed writes are repeated.
func heal(t *testing.T, r *rand.Rand, n *node, from, next *calc.State) {
	t.Helper()
	n.fail = func() bool { return false }
	n.hook = func(p netip.Prefix) { between(t, r, n, from, next, p) }
	commit, err := n.Apply(&calc.Delta{})
	n.hook = func(netip.Prefix) {}
	if err != nil || len(commit.Held) > 0 {
		t.Fatalf("after the faults: %v, held %v", err, commit.Held)
	}
	n.flip(commit)
	n.state = next
	if err := n.Reuse(n.Sweep()); err != nil {
		t.Fatal(err)
	}
	n.check(t, r, 20)
	if len(n.entries) != len(n.state.Endpoints) {
		t.Fatalf("%d entries for %d endpoints", len(n.entries), len(n.state.Endpoints))
	}
}

// Tables that are too small refuse changes that do not fit and keep everything else; the next generation has room.
func TestFullTablesKeepWhatTheyHave(t *testing.T) {
	t.Parallel()
	refused := map[string]int{}
	for i := range 200 * *rounds {
		r := random(t, i)
		n := newNode(t, Sizes{
			Blocks: 1, Vectors: 40 + r.IntN(200), Chunks: 20 + r.IntN(200), Hosts: 2 + r.IntN(20), Nets: 4 + r.IntN(20),
		})
		o := classifiertest.Options{}
		from := classifiertest.RandomState(r, o)
		first, err := n.Apply(classifiertest.Diff(n.state, from))
		n.flip(first)
		n.state = from
		round := n.Sweep()
		if err == nil {
			n.check(t, r, 5)
			_ = n.Reuse(round)
			next := classifiertest.Change(r, from, o)
			n.hook = func(p netip.Prefix) { between(t, r, n, from, next, p) }
			var commit Commit
			commit, err = n.Apply(classifiertest.Diff(from, next))
			between(t, r, n, from, next, anywhere)
			n.flip(commit)
			_ = n.Reuse(n.Sweep())
			between(t, r, n, from, next, anywhere)
			n.state = next
		}
		if err != nil {
			refusal(t, refused, err)
			nextGeneration(t, r, n.state)
		} else {
			n.check(t, r, 5)
		}
	}
	t.Logf("refused for lack of %v", refused)
}

func refusal(t *testing.T, refused map[string]int, err error) {
	t.Helper()
	var full *ErrFull
	if !errors.As(err, &full) {
		t.Fatalf("not a lack of room: %v", err)
	}
	refused[full.What]++
}

func nextGeneration(t *testing.T, r *rand.Rand, s *calc.State) {
	t.Helper()
	sizes, err := SizesFor(s)
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, sizes)
	n.become(t, s)
	n.check(t, r, 10)
}

// If there are not enough slots, the largest policy is left out, and only the endpoints that have it are closed.
func TestSlotsThatRunOutRefuseTheLargestPolicy(t *testing.T) {
	t.Parallel()
	s := fleet(1, layout.BlockSlots, 1)
	id := calc.EndpointID{Kind: "WorkloadEndpoint", Name: "other"}
	policy := calc.Policy{ID: calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "small"}, Tier: "default"}
	policy.Ingress = []calc.Rule{fleetRule(0)}
	other := calc.Endpoint{ID: id}
	other.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{
		{Tier: "default", Policies: []calc.PolicyID{policy.ID}},
	}
	s.Policies[policy.ID], s.Endpoints[id] = policy, other

	n := newNode(t, Sizes{Blocks: 1, Vectors: 10000, Chunks: 10000, Hosts: 10000, Nets: 10000})
	commit, err := n.Apply(classifiertest.Whole(s))
	var full *ErrFull
	if !errors.As(err, &full) || full.What != "slots" {
		t.Fatalf("error %v, want a lack of slots", err)
	}
	n.flip(commit)
	n.Sweep()
	for id, m := range n.entries {
		if closed := id.Name != "other"; (m.Closed != "") != closed {
			t.Errorf("%v closed: %q", id, m.Closed)
		}
	}
}

// If vectors run out, the ports that have room are in force, and the endpoints that need the others are closed.
func TestVectorsThatRunOutCloseOnlySomeEndpoints(t *testing.T) {
	t.Parallel()
	s := fleet(0, 0, 0)
	for i := range 100 {
		p := calc.Policy{ID: policyID(fmt.Sprint("policy-", i)), Tier: "default"}
		port := uint16(100 + 10*i)
		p.Ingress = []calc.Rule{{Action: api.Allow, V4: true, V6: true, Protocol: 6,
			Destination: calc.Match{Ports: []calc.PortRange{{First: port, Last: port}}}}}
		s.Policies[p.ID] = p
		e := calc.Endpoint{ID: calc.EndpointID{Kind: "WorkloadEndpoint", Name: fmt.Sprint(i)}}
		e.Policies[calc.Normal][calc.Ingress] = []calc.TierPolicies{{Tier: "default", Policies: []calc.PolicyID{p.ID}}}
		s.Endpoints[e.ID] = e
	}
	n := newNode(t, Sizes{Blocks: 1, Vectors: 200, Chunks: 1000, Hosts: 10, Nets: 10})
	commit, err := n.Apply(classifiertest.Whole(s))
	refusal(t, map[string]int{}, err)
	n.flip(commit)
	n.Sweep()
	n.state = s
	closed := n.check(t, random(t, 0), 5)
	if closed == 0 || closed > 60 {
		t.Errorf("%d of 100 endpoints are closed", closed)
	}
	nextGeneration(t, random(t, 0), s)
}

// In a table with few free slots rules have to make room for each other all the time.
func TestRulesMakeRoomForEachOther(t *testing.T) {
	t.Parallel()
	full, changes := 0, 0
	for i := range 60 * *rounds {
		r := random(t, i)
		n := newNode(t, small)
		for slot := range n.order.total {
			if r.IntN(4096) > 60+4*(i%60) { // few are free, at random
				n.order.occupy(slot)
			}
		}
		o := classifiertest.Options{}
		if !attempt(t, r, n, classifiertest.RandomState(r, o)) {
			full++
			continue
		}
		for range 15 {
			changes++
			if !attempt(t, r, n, classifiertest.Change(r, n.state, o)) {
				full++
				break
			}
		}
	}
	t.Logf("%d changes, %d of them found no room", changes, full)
}

// attempt makes a change and reports whether there was room.
func attempt(t *testing.T, r *rand.Rand, n *node, next *calc.State) bool {
	t.Helper()
	from := n.state
	n.hook = func(p netip.Prefix) { between(t, r, n, from, next, p) }
	commit, err := n.Apply(classifiertest.Diff(from, next))
	between(t, r, n, from, next, anywhere)
	n.flip(commit)
	n.state = next
	round := n.Sweep()
	if err != nil {
		refusal(t, map[string]int{}, err)
		between(t, r, n, from, next, anywhere)
		return false
	}
	n.check(t, r, 5)
	n.hook = func(netip.Prefix) {}
	if err := n.Reuse(round); err != nil {
		t.Fatal(err)
	}
	n.check(t, r, 5)
	return true
}

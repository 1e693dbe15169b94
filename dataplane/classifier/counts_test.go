package classifier

import (
	"fmt"
	"math/bits"
	"net/netip"
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/classifier/classifiertest"
)

// counts returns how many objects and numbers of each kind a classifier has.
func (c *Classifier) counts() map[string]int {
	b := map[string]int{
		"policies": len(c.policies), "tiers": len(c.tiers), "lists of profiles": len(c.profiles), "rulesets": len(c.rulesets),
		"names": len(c.ruleNames), "endpoints": len(c.endpoints), "lists": len(c.order.lists), "masks": len(c.masks.all),
		"blocks of masks": len(c.masks.chunks), "vectors": int(c.vectors.numbers.count), "chunks": int(c.vectors.chunks.count),
		"hosts": c.addresses.hosts.used, "nets": c.addresses.nets.used, "entries": c.addresses.index.Size(),
		"lists of nets": len(c.addresses.lists), "points of services": len(c.services.views),
		"points of source ports": len(c.sourcePorts.views), "closed": len(c.closed),
		"left": len(c.order.retired) + len(c.vectors.retiredChunks) + len(c.addresses.queue) + len(c.addresses.failed) + len(c.leaving) +
			len(c.pendingEndpoints) + len(c.pendingRulesets) + len(c.order.pending) + len(c.proposed),
	}
	for _, w := range c.order.occupied {
		b["slots"] += bits.OnesCount64(w)
	}
	for _, e := range c.endpoints {
		b["uncertain"] += len(e.uncertain)
	}
	for _, s := range c.addresses.sets {
		if s.view != nil {
			b["sets in use"]++
			b["views"] += 1 + len(s.former)
			b["atoms"] += len(s.view.atoms) + len(s.parts)
		}
		b["members"] += len(s.members)
	}
	for i, cs := range c.dimensions() {
		what := fmt.Sprintf(" of dimension %d", i)
		b["classes"+what], b["conditions"+what], b["atoms of classes"+what] = len(cs.byKey), len(cs.conds), cs.size
		b["left"] += len(cs.idle) + len(cs.withNewSlots)
	}
	return b
}

// settled applies until everything is in force, and reuses until nothing waits.
func settled(t testing.TB, n *node) {
	t.Helper()
	n.fail, n.hook = func() bool { return false }, func(p netip.Prefix) {}
	for range 4 {
		commit, err := n.Apply(&calc.Delta{})
		if err != nil || len(commit.Held) > 0 {
			t.Fatalf("although nothing fails: %v, held %v", err, commit.Held)
		}
		n.flip(commit)
		if err := n.Reuse(n.Sweep()); err != nil {
			t.Fatal(err)
		}
	}
}

// sameCounts compares a classifier that has a history with one that was made from its state.
func sameCounts(t testing.TB, n *node, s Sizes) {
	t.Helper()
	fresh := newNode(t, s)
	fresh.become(t, n.state)
	settled(t, fresh)
	want := fresh.Classifier.counts()
	for what, has := range n.Classifier.counts() {
		if has != want[what] {
			t.Errorf("%s: %d, but a new classifier has %d", what, has, want[what])
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// After any history a classifier has as many objects as one that was made from the last state.
func TestAHistoryEndsLikeAFreshStart(t *testing.T) {
	t.Parallel()
	for i := range 6 * *rounds {
		r := random(t, i)
		o := classifiertest.Options{Endpoints: 4, Rules: 5}
		n := newNode(t, small)
		n.become(t, classifiertest.RandomState(r, o))
		for range 60 {
			for range 1 + r.IntN(8) {
				next := classifiertest.Transact(r, n.state, o)
				if r.IntN(3) == 0 {
					next = classifiertest.Change(r, n.state, o)
				}
				n.fail = func() bool { return r.IntN(8) == 0 }
				commit, _ := n.Apply(classifiertest.Diff(n.state, next))
				n.state = next
				var bad []calc.EndpointID
				for id, m := range commit.Endpoints {
					if r.IntN(4) == 0 {
						bad = append(bad, id)
					} else {
						n.entries[id] = m
					}
				}
				for _, id := range commit.Gone {
					if r.IntN(4) == 0 {
						bad = append(bad, id)
					} else {
						delete(n.entries, id)
					}
				}
				round := n.Sweep(bad...)
				if r.IntN(3) == 0 {
					_ = n.Reuse(round - min(round, r.Uint64N(3)))
				}
			}
			settled(t, n)
			n.check(t, r, 5)
			sameCounts(t, n, small)
		}
	}
}

package calc

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
)

// Once everything is deleted nothing is left of a history but the numbers of labels' names.
func TestNothingIsLeftWhenEverythingIsDeleted(t *testing.T) {
	t.Parallel()
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	for i := range uint64(30) {
		w := world{rand.New(rand.NewPCG(first+i, 2))}
		g, keys := New("n1", Facts{}), map[api.Key]struct{}{}
		want := g.leftovers()
		for range 300 {
			u := w.update()
			keys[u.Key] = struct{}{}
			g.Update(u)
			if w.IntN(4) == 0 {
				g.Flush()
			}
		}
		for key := range keys {
			g.Update(api.Update{Key: key})
			if w.IntN(4) == 0 {
				g.Flush()
			}
		}
		g.Flush()
		for what, left := range g.leftovers() {
			if left != want[what] {
				t.Errorf("%d %s, and %d at the start; run again with -seed=%d", left, what, want[what], first+i)
			}
		}
	}
}

// leftovers counts what a graph keeps.
func (g *Graph) leftovers() map[string]int {
	counts := map[string]int{
		"tiers": len(g.tiers), "policies": len(g.policies), "things": len(g.things.ids), "profiles": len(g.things.profiles),
		"families": len(g.things.families), "sets": len(g.things.sets), "names of ports": len(g.things.ports),
		"local endpoints": len(g.local.endpoints) + len(g.local.byThing), "selections": len(g.local.selections), "groups": len(g.local.groups),
		"claims": len(g.local.claims.interfaces) + len(g.local.claims.addresses), "unused selections": len(g.local.unused),
		"disturbed endpoints and groups": len(g.local.dirty) + len(g.local.regroup), "users": len(g.active.users),
		"policies in use": len(g.active.current), "noisy policies": g.active.noisy, "slots": g.active.slots, "tiers in use": len(g.active.inTier),
		"touched":  len(g.active.touched) + len(g.active.tierSeen) + len(g.things.touched) + len(g.things.renamed) + len(g.things.portsLeft),
		"problems": len(g.problems.table.now) + len(g.problems.sources),
	}
	for _, kind := range g.objects {
		counts["objects"] += len(kind)
	}
	for _, x := range []*index{g.things.index, g.local.index} {
		counts["selectors that wait"] += len(x.waiting) + len(x.always)
		counts["labels of things"] += len(x.postings.labels)
	}
	return counts
}

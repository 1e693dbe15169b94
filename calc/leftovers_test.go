package calc

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
)

// After all objects of a history are deleted, a graph keeps nothing but the numbers of labels' names.
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

// leftovers counts the entries of all collections of a graph.
func (g *Graph) leftovers() map[string]int {
	counts := map[string]int{
		"tiers": len(g.tiers), "policies": len(g.policies), "entities": len(g.entities.ids), "profiles": len(g.entities.profiles),
		"lists of profiles": len(g.entities.profileLists), "sets": len(g.entities.sets), "named ports": len(g.entities.ports),
		"local endpoints": len(g.local.endpoints) + len(g.local.byEntity), "selections": len(g.local.selections), "groups": len(g.local.groups),
		"claims": len(g.local.claims.interfaces) + len(g.local.claims.addresses), "selections without policies": len(g.local.emptySelections),
		"pending endpoints and groups": len(g.local.pending) + len(g.local.pendingGroups), "references": len(g.active.refs),
		"active policies": len(g.active.resolved), "continuing policies": g.active.continuing, "slots": g.active.slots, "active tiers": len(g.active.tierRefs),
		"pending":  len(g.active.pending) + len(g.active.pendingTiers) + len(g.entities.pending) + len(g.entities.pendingPorts) + len(g.entities.unusedPorts),
		"problems": len(g.problems.table.now) + len(g.problems.sources),
	}
	for _, kind := range g.objects {
		counts["objects"] += len(kind)
	}
	for _, x := range []*index{g.entities.index, g.local.index} {
		counts["selectors that wait"] += len(x.waiting) + len(x.always)
		counts["labels of entities"] += len(x.postings.labels)
	}
	return counts
}

package calc

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
)

// Every policy of the datastore is either active or idle, after any history.
func TestPoliciesAreActiveOrIdle(t *testing.T) {
	t.Parallel()
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	idlers := 0
	for i := range 50 {
		w := world{rand.New(rand.NewPCG(first+uint64(i), 3))}
		g, state, all := New("n1", Facts{}), &State{}, objects{}
		for range 40 {
			for range 5 {
				u := w.update()
				g.Update(u)
				all.put(u)
			}
			state.Fold(g.Flush())
			idle := g.Idle()
			idlers += len(idle)
			if n := g.CountIdle(); n != len(idle) {
				t.Errorf("%d idle policies are counted, %d listed", n, len(idle))
			}
			for _, u := range all.of(api.KindGlobalNetworkPolicy, api.KindNetworkPolicy) {
				id := PolicyID{Kind: u.Key.Kind, Namespace: u.Key.Namespace, Name: u.Key.Name}
				_, active := state.Policies[id]
				at := slices.IndexFunc(idle, func(p IdlePolicy) bool { return p.ID == id })
				if active == (at >= 0) {
					t.Errorf("%v: in force %v, idle %v", id, active, at >= 0)
				}
				if p := readPolicy(u); at >= 0 && (idle[at].Tier != p.Tier || idle[at].Order != p.Order) {
					t.Errorf("%v is listed as %+v", id, idle[at])
				}
			}
			if t.Failed() {
				t.Fatalf("run again with -seed=%d", first+uint64(i))
			}
		}
	}
	if idlers == 0 {
		t.Error("no policy was ever idle")
	}
}

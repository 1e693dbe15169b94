package table_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/margay-project/margay/dataplane/table"
)

// TestRandomHistoriesEndInTheDesiredState plays random histories of desired states, faults, foreign changes and restarts.
// After the faults end, the target holds exactly the desired state. Before the input is complete nothing is deleted.
func TestRandomHistoriesEndInTheDesiredState(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i := range uint64(500) {
		history(t, rand.New(rand.NewPCG(seed, i)))
		if t.Failed() {
			t.Fatalf("history %d of seed %d", i, seed)
		}
	}
}

func history(t *testing.T, random *rand.Rand) {
	target := &fake{held: map[string]string{}, fails: map[string]string{}}
	same := func(a, b string) bool { return a == b }
	entries := table.New("things", target, same)
	wanted := map[string]string{}
	inSync := false
	now := time.Unix(0, 0)
	for range 60 {
		key := fmt.Sprintf("k%d", random.IntN(8))
		switch random.IntN(12) {
		case 0, 1, 2:
			wanted[key] = fmt.Sprint(random.IntN(3))
			entries.Want(key, wanted[key])
		case 3, 4:
			delete(wanted, key)
			entries.Unwant(key)
		case 5:
			ops := []string{"put", "delete", "list", "put " + key, "delete " + key}
			target.fails[ops[random.IntN(len(ops))]] = []string{"refuse", "lost"}[random.IntN(2)]
		case 6:
			clear(target.fails)
		case 7:
			target.held[key] = "stranger"
			entries.Resync()
		case 8:
			delete(target.held, key)
			entries.Resync()
		case 9: // a new process, whose input is not yet complete
			entries = table.New("things", target, same)
			for k, v := range wanted {
				entries.Want(k, v)
			}
			inSync = false
		case 10:
			inSync = true
		case 11:
			now = now.Add(time.Duration(random.IntN(1000)) * time.Millisecond)
		}
		before := slices.Sorted(maps.Keys(target.held))
		_ = entries.Reconcile(now, inSync)
		if !inSync {
			for _, k := range before {
				if _, still := target.held[k]; !still {
					t.Errorf("%s was deleted before the input was complete", k)
				}
			}
		}
	}
	clear(target.fails)
	now = now.Add(time.Hour)
	if err := entries.Reconcile(now, true); err != nil {
		t.Errorf("error after the faults have ended: %v", err)
	}
	if !maps.Equal(target.held, wanted) {
		t.Errorf("holds %v, wanted %v", target.held, wanted)
	}
	target.drain()
	if err := entries.Reconcile(now, true); err != nil || len(target.drain()) > 0 {
		t.Errorf("a further pass still had work: %v", err)
	}
	entries.Repairs()
	made, told := strangersAtWork(random, target, wanted, now, entries)
	if !maps.Equal(target.held, wanted) || !maps.Equal(made, told) {
		t.Errorf("others made changes %v, reported were %v; holds %v, wanted %v", made, told, target.held, wanted)
	}
	if s := entries.Status(); s.Wanted != len(wanted) || s.Programmed != len(wanted) || s.Failed != 0 || s.Error != nil {
		t.Errorf("status %+v", s)
	}
}

// strangersAtWork changes some entries of the target and lets the table repair them. It returns the changes, and the changes
// that the table reported.
func strangersAtWork(random *rand.Rand, target *fake, wanted map[string]string, now time.Time,
	entries *table.Table[string, string]) (made, told map[string]table.Change) {
	made, told = map[string]table.Change{}, map[string]table.Change{}
	for i := range 8 {
		key := fmt.Sprintf("k%d", i)
		_, want := wanted[key]
		switch random.IntN(3) {
		case 0:
			if want {
				delete(target.held, key)
				made[key] = table.Gone
			}
		case 1:
			target.held[key] = "stranger"
			made[key] = table.Stranger
			if want {
				made[key] = table.Changed
			}
		}
	}
	entries.Resync()
	_ = entries.Reconcile(now, true)
	for _, r := range entries.Repairs() {
		told[r.Entry] = r.Found
	}
	return made, told
}

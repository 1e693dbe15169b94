package datastore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/internal/lab"
)

// version is one state of a policy, as a writer made it: its selector tells who did, and when.
type version struct {
	revision int64
	selector string // empty: deleted
}

// writers change policies at random, by several goroutines that get in each other's way.
type writers struct {
	t    *testing.T
	stop func()

	working sync.RWMutex // held while they rest

	mu           sync.Mutex
	acknowledged map[string]version // by policy and selector
	last         int64
	refused      int
	unanswered   int
}

const writerCount = 3

func startWriters(t *testing.T, s *Store) *writers {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithCancel(testContext(t))
	w := &writers{t: t, acknowledged: map[string]version{}}
	var running sync.WaitGroup
	for i := range writerCount {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		running.Go(func() {
			for step := 0; ctx.Err() == nil; step++ {
				w.working.RLock()
				w.note(w.change(ctx, s, random, fmt.Sprintf("w%d == '%d'", i, step)))
				w.working.RUnlock()
				lab.LetPass(time.Duration(random.IntN(10)) * time.Millisecond) // the pace of the changes
			}
		})
	}
	w.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(w.stop)
	return w
}

// change makes one change of one policy and returns what was acknowledged.
func (w *writers) change(ctx context.Context, s *Store, random *rand.Rand, selector string) (string, version, error) {
	name := string(rune('a' + random.IntN(8)))
	key := api.Key{Kind: "GlobalNetworkPolicy", Name: name}
	o, err := s.Get(ctx, key)
	switch {
	case isNotFound(err):
		o, err = s.Create(ctx, policy(name, selector))
	case err != nil:
		return "", version{}, err
	case random.IntN(4) == 0:
		_, err = s.Delete(ctx, key, o.Meta().ResourceVersion)
		return "", version{}, err
	default:
		changed := *o.(*api.GlobalNetworkPolicy)
		changed.Spec.Selector = selector
		o, err = s.Update(ctx, &changed)
	}
	if err != nil {
		return "", version{}, err
	}
	revision, err := parseVersion(o.Meta().ResourceVersion)
	return name + " " + selector, version{revision, selector}, err
}

func (w *writers) note(what string, v version, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var conflict ConflictError
	var exists ExistsError
	switch {
	case err == nil && what != "":
		w.acknowledged[what] = v
		w.last = max(w.last, v.revision)
	case err == nil:
	case errors.As(err, &conflict) || errors.As(err, &exists) || isNotFound(err):
		w.refused++
	case !errors.Is(err, context.Canceled):
		w.unanswered++
		w.t.Logf("%s %v", time.Now().Format("05.000"), err)
	}
}

// pause returns when nothing is being written any more.
func (w *writers) pause() (resume func()) {
	w.working.Lock()
	return sync.OnceFunc(w.working.Unlock)
}

func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acknowledged)
}

func (w *writers) newest() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// check holds a history by policies to what was acknowledged.
func (w *writers) check(history map[api.Key][]version) {
	w.t.Helper()
	seen := map[string]int64{}
	for key, versions := range history {
		var last int64
		for _, v := range versions {
			if v.selector == "" {
				continue
			}
			what := key.Name + " " + v.selector
			if v.revision <= last {
				w.t.Errorf("%s: revision %d after %d", what, v.revision, last)
			}
			if at, twice := seen[what]; twice {
				w.t.Errorf("%s was written at %d and at %d", what, at, v.revision)
			}
			last, seen[what] = v.revision, v.revision
		}
	}
	for what, v := range w.acknowledged {
		if at, was := seen[what]; was && at != v.revision {
			w.t.Errorf("%s was acknowledged at %d and told at %d", what, v.revision, at)
		}
	}
}

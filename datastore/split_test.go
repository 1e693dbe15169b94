package datastore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

var errOutage = errors.New("the datastore is gone")

// outage is a KV whose commits fail after the first few.
type outage struct {
	KV
	commits int
	before  func() // of each commit
}

func (o *outage) Commit(ctx context.Context, conditions []Condition, writes []Write) (Outcome, error) {
	if o.before != nil {
		o.before()
	}
	if o.commits == 0 {
		return Outcome{}, errOutage
	}
	o.commits--
	return o.KV.Commit(ctx, conditions, writes)
}

func lock(t *testing.T, s *Store, locked bool) {
	t.Helper()
	if err := s.EnsureInitialized(t.Context()); err != nil {
		t.Fatal(err)
	}
	information := must[*api.ClusterInformation](t)(s.Get(t.Context(), api.Key{Kind: "ClusterInformation", Name: "default"}))
	ready := !locked
	information.Spec.DatastoreReady = &ready
	must[*api.ClusterInformation](t)(s.Update(t.Context(), information))
}

// poolsOf returns the network of each pool, and whether it is disabled.
func poolsOf(t *testing.T, s *Store) map[string]string {
	t.Helper()
	objects, _, err := s.List(t.Context(), "IPPool", "")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, o := range objects {
		all[o.Meta().Name] = fmt.Sprintf("%s %t", o.(*api.IPPool).Spec.CIDR, o.(*api.IPPool).Spec.Disabled)
	}
	return all
}

func TestAnInterruptedSplitIsCompletedByTheNextOne(t *testing.T) {
	t.Parallel()
	const parts, commits = 256, 5
	want := map[string]string{"other": "172.16.0.0/16 false"}
	for i := range parts {
		want[fmt.Sprintf("split-v4-%d", i)] = fmt.Sprintf("10.0.%d.0/24 false", i)
	}
	for at := range commits + 1 {
		kv := kvtest.NewMemory()
		s := New(kv)
		lock(t, s, true)
		must[*api.IPPool](t)(s.Create(t.Context(), pool("v4", "10.0.0.0/16")))
		must[*api.IPPool](t)(s.Create(t.Context(), pool("other", "172.16.0.0/16")))
		_, err := New(&outage{KV: kv, commits: at}).SplitPool(t.Context(), "v4", parts)
		if got, complete := poolsOf(t, s), at == commits; complete {
			if err != nil || cmp.Diff(want, got) != "" {
				t.Errorf("in one go: %v\n%s", err, cmp.Diff(want, got))
			}
			continue
		} else if !errors.Is(err, errOutage) || got["v4"] != fmt.Sprintf("10.0.0.0/16 %t", at > 0) || len(got) != 2+at*splitAtOnce {
			t.Fatalf("interrupted after %d commits: %v, and v4 is %s beside %d others", at, err, got["v4"], len(got)-1)
		}
		pools, err := s.SplitPool(t.Context(), "v4", parts)
		if got := poolsOf(t, s); err != nil || len(pools) != parts || cmp.Diff(want, got) != "" {
			t.Errorf("after an interruption after %d commits: %v, %d pools\n%s", at, err, len(pools), cmp.Diff(want, got))
		}
	}
}

func TestAnInterruptedSplitCannotBeCompletedWithAnotherNumber(t *testing.T) {
	t.Parallel()
	kv := kvtest.NewMemory()
	s := New(kv)
	lock(t, s, true)
	must[*api.IPPool](t)(s.Create(t.Context(), pool("v4", "10.0.0.0/16")))
	if _, err := New(&outage{KV: kv, commits: 2}).SplitPool(t.Context(), "v4", 256); !errors.Is(err, errOutage) {
		t.Fatal(err)
	}
	before := poolsOf(t, s)
	_, err := s.SplitPool(t.Context(), "v4", 128)
	if err == nil || !strings.Contains(err.Error(), "exists and has the CIDR 10.0.0.0/24, not 10.0.0.0/23: if an interrupted split into another number created it") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, poolsOf(t, s)); diff != "" {
		t.Errorf("changed all the same:\n%s", diff)
	}
}

func TestASplitStopsWhenTheDatastoreIsUnlockedMeanwhile(t *testing.T) {
	t.Parallel()
	kv := kvtest.NewMemory()
	s := New(kv)
	lock(t, s, true)
	must[*api.IPPool](t)(s.Create(t.Context(), pool("v4", "10.0.0.0/16")))
	_, err := New(&outage{KV: kv, commits: 9, before: func() { lock(t, s, false) }}).SplitPool(t.Context(), "v4", 4)
	if !errors.As(err, new(ConflictError)) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(map[string]string{"v4": "10.0.0.0/16 false"}, poolsOf(t, s)); diff != "" {
		t.Errorf("pools:\n%s", diff)
	}
	if _, err := s.SplitPool(t.Context(), "v4", 4); !errors.Is(err, ErrUnlocked) {
		t.Errorf("unlocked: %v", err)
	}
}

func TestSplitInEtcd(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, kv KV) {
		s := New(kv)
		if _, err := s.SplitPool(t.Context(), "v4", 128); !errors.Is(err, ErrUnlocked) {
			t.Errorf("in an empty datastore: %v", err)
		}
		lock(t, s, true)
		long := strings.Repeat("a", 253)
		must[*api.IPPool](t)(s.Create(t.Context(), pool(long, "fd00::/48")))
		pools, err := s.SplitPool(t.Context(), long, 128)
		if err != nil || len(pools) != 128 {
			t.Fatalf("%d pools, %v", len(pools), err)
		}
		got := poolsOf(t, s)
		last := "split-" + strings.Repeat("a", 243) + "-127"
		if len(got) != 128 || got[last] != "fd00:0:0:fe00::/55 false" {
			t.Errorf("%d pools, the last %q", len(got), got[last])
		}
	})
}

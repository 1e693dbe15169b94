package kvtest_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/datastore/kv/kvtest"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// TestMemoryIsTheTwinOfEtcd does the same random commits and reads in both and compares every answer.
func TestMemoryIsTheTwinOfEtcd(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 3))
	server, memory, ctx := newEtcd(t), kvtest.NewMemory(), t.Context()
	keys := []string{"/a", "/a/b", "/a/c", "/b", "/b\xff", "/c"}
	key := func() string { return keys[random.IntN(len(keys))] }
	span := func() kv.Span {
		from, to := key(), key()
		if from >= to {
			to = from + "\x00"
		}
		return kv.Span{From: from, To: to}
	}
	revision := int64(1)
	for step := range 500 {
		var conditions []kv.Condition
		for range random.IntN(3) {
			c := kv.Condition{Key: key(), Revision: random.Int64N(revision + 1)}
			if random.IntN(2) == 0 {
				c = kv.Condition{Span: span(), Revision: random.Int64N(revision + 1)}
			}
			conditions = append(conditions, c)
		}
		var writes []kv.Write
		for _, i := range random.Perm(len(keys))[:random.IntN(3)] {
			write := kv.Write{Key: keys[i], Delete: random.IntN(3) == 0}
			if !write.Delete {
				write.Value = fmt.Append(nil, step)
			}
			writes = append(writes, write)
		}
		want, err := server.Commit(ctx, conditions, writes)
		if err != nil {
			t.Fatal(err)
		}
		got, err := memory.Commit(ctx, conditions, writes)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("seed %d: commit %+v of %+v: -etcd +memory\n%s", seed, conditions, writes, diff)
		}
		revision = want.Revision
		looked := []string{key(), key()}
		there, wantAt, err := server.Lookup(ctx, looked)
		if err != nil {
			t.Fatal(err)
		}
		found, gotAt, err := memory.Lookup(ctx, looked)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(there, found); diff != "" || gotAt != wantAt {
			t.Fatalf("seed %d: %v at %d, want %d: -etcd +memory\n%s", seed, looked, gotAt, wantAt, diff)
		}
		s, at, limit := span(), random.Int64N(revision+1), 1+random.IntN(3)
		page, err := server.Range(ctx, s, at, limit)
		if err != nil {
			t.Fatal(err)
		}
		twin, err := memory.Range(ctx, s, at, limit)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(page, twin, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(kv.Page{}, "Store")); diff != "" {
			t.Fatalf("seed %d: %v at %d: -etcd +memory\n%s", seed, s, at, diff)
		}
	}
}

// newEtcd is a connection to an etcd that ends with the test.
func newEtcd(t *testing.T) *etcd.Client {
	t.Helper()
	server := etcdlab.StartServer(t, lab.ShortDir(t))
	client, err := etcd.Dial(t.Context(), etcd.Config{Endpoints: []string{server.Endpoint()}, DialTimeout: lab.Patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

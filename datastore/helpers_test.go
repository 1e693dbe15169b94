package datastore

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/datastore/kv/kvtest"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// testContext ends with the test, and shortly before the test process is out of time: a busy machine must not fail a test.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	if limited, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, ok := limited.Deadline(); ok {
			ctx, cancel = context.WithDeadline(ctx, deadline.Add(-30*time.Second))
		}
	}
	t.Cleanup(cancel)
	return ctx
}

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

func dial(t testing.TB, endpoint string) *etcd.Client {
	t.Helper()
	store, err := etcd.Dial(testContext(t), etcd.Config{Endpoints: []string{endpoint}, DialTimeout: lab.Patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// answered repeats a request while nobody answers it: a cluster on a busy machine may need long to elect a leader.
func answered(t testing.TB, request func() error) {
	t.Helper()
	var refusal error
	lab.Await(t, func() error {
		refusal = request()
		if etcd.Unreachable(refusal) {
			return refusal
		}
		return nil
	})
	if refusal != nil {
		t.Fatal(refusal)
	}
}

// onBoth runs a test against memory and against a real etcd.
func onBoth(t *testing.T, test func(t *testing.T, store KV)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, kvtest.NewMemory())
	})
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		test(t, dial(t, etcdlab.StartServer(t, lab.ShortDir(t)).Endpoint()))
	})
}

func policy(name, selector string) *api.GlobalNetworkPolicy {
	return &api.GlobalNetworkPolicy{
		TypeMeta: api.TypeMeta{Kind: "GlobalNetworkPolicy"},
		Metadata: api.Metadata{Name: name},
		Spec:     api.GlobalNetworkPolicySpec{Selector: selector},
	}
}

func pool(name, cidr string) *api.IPPool {
	return &api.IPPool{
		TypeMeta: api.TypeMeta{Kind: "IPPool"},
		Metadata: api.Metadata{Name: name},
		Spec:     api.IPPoolSpec{CIDR: cidr},
	}
}

// must returns what was stored.
func must[T api.Object](t *testing.T) func(o api.Object, err error) T {
	return func(o api.Object, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return o.(T)
	}
}

// raw writes a value directly, as another program would.
func raw(t *testing.T, store KV, key, value string) int64 {
	t.Helper()
	return commit(t, store, Write{Key: key, Value: []byte(value)})
}

// commit makes one write and returns its revision. If an answer is missing, it may be made twice.
func commit(t *testing.T, store KV, w Write) int64 {
	t.Helper()
	var outcome Outcome
	answered(t, func() (err error) {
		outcome, err = store.Commit(testContext(t), nil, []Write{w})
		return err
	})
	return outcome.Revision
}

func stored(t *testing.T, store KV, key string) string {
	t.Helper()
	page, err := store.Range(testContext(t), Span{From: key, To: key + "\x00"}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Entries) == 0 {
		return ""
	}
	return string(page.Entries[0].Value)
}

const policies = "/calico/resources/v3/projectcalico.org/globalnetworkpolicies/"

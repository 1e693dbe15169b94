package datastore

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/datastore/etcd/embed"
	"github.com/margay-project/margay/datastore/kv/kvtest"
	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
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

// shortDir is a directory whose path leaves room for the name of a socket.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "margay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func startEtcd(t testing.TB, dir string) *embed.Server {
	t.Helper()
	server, err := embed.Start(testContext(t), embed.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

func dial(t testing.TB, endpoint string) *etcd.Client {
	t.Helper()
	store, err := etcd.Dial(testContext(t), etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// admin is a connection for what operators do.
func admin(t testing.TB, endpoint string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// onBoth runs a test against memory and against a real etcd.
func onBoth(t *testing.T, test func(t *testing.T, store KV)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, kvtest.NewMemory())
	})
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		test(t, dial(t, startEtcd(t, shortDir(t)).Endpoint()))
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

// raw writes a value as somebody else would.
func raw(t *testing.T, store KV, key, value string) int64 {
	t.Helper()
	outcome, err := store.Commit(testContext(t), nil, []Write{{Key: key, Value: []byte(value)}})
	if err != nil {
		t.Fatal(err)
	}
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

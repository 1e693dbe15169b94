package etcd

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/margay-project/margay/datastore/etcd/embed"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

func TestMain(m *testing.M) {
	etcdlab.BecomeMember()
	flag.Parse()
	flag.Set("test.parallel", "8") // they mostly wait
	os.Exit(m.Run())
}

// silence is how long a test waits for what must come. Nothing takes nearly as long, even on a busy machine.
const silence = 3 * time.Minute

// startEtcd starts an etcd that ends with the test. The path of its directory leaves room for the name of a socket.
func startEtcd(t testing.TB) *embed.Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "margay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	server, err := embed.Start(t.Context(), embed.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

func dial(t testing.TB, endpoint string) *Client {
	t.Helper()
	store, err := Dial(t.Context(), Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

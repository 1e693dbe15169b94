package embed

import (
	"os"
	"testing"

	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/datastore/kv"
)

// shortDir is a directory whose path leaves room for the name of a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "margay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func startEtcd(t testing.TB, dir string) *Server {
	t.Helper()
	server, err := Start(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

func dial(t testing.TB, endpoint string) *etcd.Client {
	t.Helper()
	client, err := etcd.Dial(t.Context(), etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// put writes a value and returns its revision.
func put(t testing.TB, store kv.KV, key, value string) int64 {
	t.Helper()
	outcome, err := store.Commit(t.Context(), nil, []kv.Write{{Key: key, Value: []byte(value)}})
	if err != nil {
		t.Fatal(err)
	}
	return outcome.Revision
}

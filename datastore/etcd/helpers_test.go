package etcd

import (
	"flag"
	"os"
	"testing"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

func TestMain(m *testing.M) {
	etcdlab.BecomeMember()
	flag.Parse()
	flag.Set("test.parallel", "8") // they mostly wait
	os.Exit(m.Run())
}

func dial(t testing.TB, endpoint string) *Client {
	t.Helper()
	store, err := Dial(t.Context(), Config{Endpoints: []string{endpoint}, DialTimeout: lab.Patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

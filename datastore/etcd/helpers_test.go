package etcd

import (
	"flag"
	"os"
	"testing"
	"time"

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

func dial(t testing.TB, endpoint string) *Client {
	t.Helper()
	store, err := Dial(t.Context(), Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

package datastore

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

func TestEmbeddedEtcdIsPrivate(t *testing.T) {
	t.Parallel()
	before := abstractSockets(t)
	dir := filepath.Join(shortDir(t), "etcd")
	server := startEtcd(t, dir)
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "etcd.sock"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	if !strings.HasPrefix(server.Endpoint(), "unix:///") {
		t.Errorf("endpoint %s", server.Endpoint())
	}
	for name := range abstractSockets(t) {
		if !before[name] {
			t.Errorf("socket %s is open to everybody", name)
		}
	}
	if addrs := server.server.Clients; len(addrs) != 1 || addrs[0].Addr().Network() != "unix" {
		t.Errorf("listens on %v", addrs)
	}
	for _, peer := range server.server.Peers {
		if peer.Addr().Network() != "unix" {
			t.Errorf("listens for peers on %v", peer.Addr())
		}
	}
}

// abstractSockets are the listening unix sockets without a file, which no permission protects.
func abstractSockets(t *testing.T) map[string]bool {
	t.Helper()
	file, err := os.Open("/proc/net/unix")
	if err != nil {
		t.Skip("no /proc/net/unix: ", err)
	}
	defer file.Close()
	found := map[string]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		const listening = "00010000"
		if len(fields) == 8 && fields[3] == listening && strings.HasPrefix(fields[7], "@") {
			found[fields[7]] = true
		}
	}
	return found
}

func TestEmbeddedEtcdKeepsItsData(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	server := startEtcd(t, dir)
	s := New(dial(t, server.Endpoint()))
	ctx := testContext(t)
	if err := s.EnsureInitialized(ctx); err != nil {
		t.Fatal(err)
	}
	made := must[*api.GlobalNetworkPolicy](t)(s.Create(ctx, policy("a", "all()")))
	server.Close()
	s = New(dial(t, startEtcd(t, dir).Endpoint()))
	read := must[*api.GlobalNetworkPolicy](t)(s.Get(ctx, api.KeyOf(made)))
	if read.ResourceVersion != made.ResourceVersion || read.UID != made.UID {
		t.Errorf("was %+v, is %+v", made.Metadata, read.Metadata)
	}
}

func TestEmbeddedEtcdSaysWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	server := startEtcd(t, dir)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().String()
	for _, c := range []struct {
		config EmbeddedConfig
		want   string
	}{
		{EmbeddedConfig{Dir: dir}, "another process uses " + dir},
		{EmbeddedConfig{Dir: shortDir(t), ListenTCP: port}, port + " is in use by another process"},
		{EmbeddedConfig{Dir: shortDir(t), ListenTCP: "2379"}, `listen address "2379": want HOST:PORT`},
		{EmbeddedConfig{Dir: filepath.Join(shortDir(t), strings.Repeat("x", 100))}, "choose a shorter directory"},
		{EmbeddedConfig{Dir: "/dev/null/etcd"}, "make its directory"},
	} {
		_, err := StartEmbedded(testContext(t), c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if _, err := New(dial(t, server.Endpoint())).Get(testContext(t), api.Key{Kind: "Tier", Name: "x"}); !isNotFound(err) {
		t.Errorf("the first server suffered: %v", err)
	}
}

func TestEmbeddedEtcdSaysThatItsDataIsDamaged(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"data/member/snap/db", "data/member/wal/0000000000000000-0000000000000000.wal"} {
		dir := shortDir(t)
		startEtcd(t, dir).Close()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(strings.Repeat("garbage", 10_000)), 0o600); err != nil {
			t.Fatal(err)
		}
		server, err := StartEmbedded(testContext(t), EmbeddedConfig{Dir: dir})
		if err == nil {
			server.Close()
		}
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "its data is damaged") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestEmbeddedEtcdListensOnTCPWhenAsked(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	server, err := StartEmbedded(testContext(t), EmbeddedConfig{Dir: shortDir(t), ListenTCP: address})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	raw(t, dial(t, "http://"+address), policies+"a", "{}")
	if stored(t, dial(t, server.Endpoint()), policies+"a") != "{}" {
		t.Error("the two endpoints are not the same store")
	}
}

func BenchmarkPutToWatch(b *testing.B) {
	server := startEtcd(b, shortDir(b))
	store := dial(b, server.Endpoint())
	ctx := testContext(b)
	batches := New(store).Watch(ctx, quiet())
	for batch := range batches {
		if batch.InSync {
			break
		}
	}
	for i := 0; b.Loop(); i++ {
		value := entry("a", fmt.Sprintf("x == '%d'", i), 0).Value
		if _, err := store.Commit(ctx, nil, []Write{{Key: policies + "a", Value: value}}); err != nil {
			b.Fatal(err)
		}
		for batch := range batches {
			if len(batch.Updates) > 0 {
				break
			}
		}
	}
}

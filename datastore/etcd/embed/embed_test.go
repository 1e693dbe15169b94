package embed

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/internal/skip"
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
		skip.For(t, "no /proc/net/unix: %v", err)
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
	made := put(t, dial(t, server.Endpoint()), "a", "value")
	server.Close()
	read, err := kv.Get(t.Context(), dial(t, startEtcd(t, dir).Endpoint()), "a", 0)
	if err != nil || read == nil || read.Revision != made || string(read.Value) != "value" {
		t.Errorf("written at %d, is %+v: %v", made, read, err)
	}
}

func TestEmbeddedEtcdExplainsWhyItCannotStart(t *testing.T) {
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
		config Config
		want   string
	}{
		{Config{Dir: dir}, "another process uses " + dir},
		{Config{Dir: shortDir(t), ListenTCP: port}, port + " is in use by another process"},
		{Config{Dir: shortDir(t), ListenTCP: "2379"}, `listen address "2379": want HOST:PORT`},
		{Config{Dir: filepath.Join(shortDir(t), strings.Repeat("x", 100))}, "choose a shorter directory"},
		{Config{Dir: "/dev/null/etcd"}, "create its directory"},
	} {
		_, err := Start(t.Context(), c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if entry, err := kv.Get(t.Context(), dial(t, server.Endpoint()), "x", 0); err != nil || entry != nil {
		t.Errorf("the first server suffered: %v, %v", entry, err)
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
		server, err := Start(t.Context(), Config{Dir: dir})
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
	server, err := Start(t.Context(), Config{Dir: shortDir(t), ListenTCP: address})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	put(t, dial(t, "http://"+address), "a", "{}")
	entry, err := kv.Get(t.Context(), dial(t, server.Endpoint()), "a", 0)
	if err != nil || entry == nil || string(entry.Value) != "{}" {
		t.Errorf("the two endpoints are not the same store: %v, %v", entry, err)
	}
}

package dhcp

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sirupsen/logrus"
)

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

func TestResolversOfTheHost(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	stub := write("# systemd-resolved\nnameserver 127.0.0.53\noptions edns0\n")
	real := write("nameserver 192.0.2.53\nnameserver ::1\nnameserver 2001:db8::53 # two\nnameserver fe80::1%eth0\nnameserver\nsearch example.com\n")
	gone := filepath.Join(t.TempDir(), "gone")
	want := []netip.Addr{addr("192.0.2.53"), addr("2001:db8::53")}
	for _, paths := range [][]string{{real, stub}, {stub, real}, {gone, real}} {
		if found, err := resolversIn(paths...); err != nil || !slices.Equal(found, want) {
			t.Errorf("%v: %v, %v", paths, found, err)
		}
	}
	if found, err := resolversIn(stub, gone); err == nil || found != nil {
		t.Errorf("resolvers on the loopback are given: %v, %v", found, err)
	}
}

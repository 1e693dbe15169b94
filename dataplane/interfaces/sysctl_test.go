package interfaces_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/dataplane/table"
)

// fakeProc makes a tree of settings and returns its root.
func fakeProc(t *testing.T, settings map[string]string) string {
	root := t.TempDir()
	for path, value := range settings {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func setting(t *testing.T, root, path string) string {
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestAForwardingHostStillAcceptsRouterAdvertisements(t *testing.T) {
	root := fakeProc(t, map[string]string{
		"net/ipv6/conf/all/forwarding": "0", "net/ipv6/conf/eth0/accept_ra": "1", "net/ipv6/conf/eth1/accept_ra": "0",
	})
	if err := (&interfaces.Proc{Root: root}).Put(interfaces.Sysctl{Path: "net/ipv6/conf/all/forwarding"}, "1"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"all/forwarding": "1", "eth0/accept_ra": "2", "eth1/accept_ra": "0"} {
		if got := setting(t, root, "net/ipv6/conf/"+path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

func TestAMissingSettingDoesNotStopTheOthers(t *testing.T) {
	root := fakeProc(t, map[string]string{"net/ipv4/conf/cali1/proxy_arp": "0", "net/ipv4/ip_forward": "0"})
	settings := table.New("settings", &interfaces.Proc{Root: root}, func(a, b string) bool { return a == b })
	settings.WantExactly(interfaces.Sysctls([]interfaces.Link{{Name: "cali1", Life: 1}}, true, false))
	err := settings.Reconcile(time.Unix(0, 0), true)
	if err == nil || !strings.Contains(err.Error(), "net/ipv4/conf/cali1/rp_filter") {
		t.Errorf("the missing file is not reported: %v", err)
	}
	if got := setting(t, root, "net/ipv4/conf/cali1/proxy_arp") + setting(t, root, "net/ipv4/ip_forward"); got != "11" {
		t.Errorf("the others are %s", got)
	}
}

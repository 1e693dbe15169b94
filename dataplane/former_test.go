package dataplane

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/margay-project/margay/calc"
)

// allSettings are the settings of this network namespace that felix may touch.
func allSettings(t *testing.T) map[string]string {
	t.Helper()
	settings := map[string]string{}
	for _, pattern := range []string{
		"net/ipv4/ip_forward", "net/ipv4/conf/*/proxy_arp", "net/ipv4/conf/*/rp_filter", "net/ipv4/conf/*/forwarding", "net/ipv4/neigh/*/proxy_delay",
		"net/ipv6/conf/*/accept_ra", "net/ipv6/conf/*/proxy_ndp", "net/ipv6/conf/*/forwarding",
	} {
		paths, err := filepath.Glob("/proc/sys/" + pattern)
		must(t, err)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			must(t, err)
			settings[strings.TrimPrefix(path, "/proc/sys/")] = strings.TrimSpace(string(text))
		}
	}
	return settings
}

func compareSettings(t *testing.T, got, want map[string]string) {
	t.Helper()
	for path, value := range want {
		if got[path] != value {
			t.Errorf("%s is %s, want %s", path, got[path], value)
		}
	}
}

// An uninstall restores every setting to its value before the first start, also after restarts and after changes by others.
// A plain stop changes no setting.
func TestUninstallRestoresSettings(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	h.plug("eth9", "192.0.2.9", "2001:db8::9") // an interface of the host that accepts router advertisements
	writeSetting(t, "net/ipv4/ip_forward", "0")
	writeSetting(t, "net/ipv6/conf/all/forwarding", "0")
	writeSetting(t, "net/ipv4/conf/cali1/rp_filter", "1")
	writeSetting(t, "net/ipv6/conf/eth9/accept_ra", "1")
	before := allSettings(t)
	w := newWorld()
	w.workload(client)
	w.workload(server)
	d := h.run(w, Options{})
	during := allSettings(t)
	for path, value := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv4/conf/cali1/rp_filter": "2", "net/ipv6/conf/eth9/accept_ra": "2",
	} {
		if during[path] != value {
			t.Fatalf("%s is %s, want %s", path, during[path], value)
		}
	}
	writeSetting(t, "net/ipv4/conf/cali1/rp_filter", "0") // a change by another program; felix repairs it
	d.settle(func() bool { return readSetting(t, "net/ipv4/conf/cali1/rp_filter") == "2" })
	must(t, d.Close())
	compareSettings(t, allSettings(t), during)

	d = h.run(w, Options{})
	server.Unplug()
	d.settle(func() bool { return d.stateOfInterface("cali2") == Waiting })
	server.Replug() // another interface with the same name
	d.settle(func() bool { return d.stateOfInterface("cali2") == Enforced })
	must(t, d.Apply(calc.Delta{}))
	must(t, d.Close())

	d = h.start(Options{}) // as felix --uninstall does: the policy is not known
	told := test.NewLocal(h.log.Logger)
	must(t, d.Uninstall())
	for _, e := range told.AllEntries() {
		if strings.Contains(e.Message, "another pin directory") {
			t.Errorf("felix logged about its own programs: %s", e.Message)
		}
	}
	after := allSettings(t)
	for path := range before {
		if strings.Contains(path, "/cali2/") {
			delete(before, path) // another interface
		}
	}
	compareSettings(t, after, before)
	for path, value := range map[string]string{"net/ipv4/conf/cali2/proxy_arp": "0", "net/ipv4/conf/cali2/forwarding": "0", "net/ipv6/conf/cali2/proxy_ndp": "0"} {
		if after[path] != value {
			t.Errorf("%s is %s, want %s", path, after[path], value)
		}
	}
	h.leavesNothing()
}

// An uninstall keeps a setting that had the right value before felix started, and one that others have changed since.
func TestUninstallKeepsSettingsOfOthers(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	writeSetting(t, "net/ipv4/ip_forward", "1")
	writeSetting(t, "net/ipv6/conf/all/forwarding", "0")
	w := newWorld()
	w.workload(client)
	w.workload(server)
	d := h.run(w, Options{})
	must(t, d.Close())
	writeSetting(t, "net/ipv4/conf/cali1/rp_filter", "1")
	d = h.start(Options{})
	must(t, d.Uninstall())
	for path, value := range map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "0", "net/ipv4/conf/cali1/rp_filter": "1"} {
		if now := readSetting(t, path); now != value {
			t.Errorf("%s is %s, want %s", path, now, value)
		}
	}
}

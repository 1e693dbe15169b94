package gate_test

import (
	"net/netip"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/margay-project/margay/dataplane/gate"
)

// newHost puts the test into a network namespace of its own.
func newHost(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		t.Skip("no network namespaces:", err)
	}
	namespace, err := netns.New()
	if err != nil {
		t.Skip("cannot make a network namespace (not root?):", err)
	}
	t.Cleanup(func() {
		namespace.Close()
		if err := netns.Set(before); err == nil {
			runtime.UnlockOSThread() // else the thread ends with the goroutine
		}
		before.Close()
	})
}

// ruleset is the namespace's ruleset as nft prints it, without counts.
func ruleset(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Skipf("nft cannot list (not installed?): %v %s", err, out)
	}
	text := regexp.MustCompile(`counter packets \d+ bytes \d+`).ReplaceAllString(string(out), "counter")
	text = regexp.MustCompile(`,\s+`).ReplaceAllString(text, ", ") // old versions print an element a line
	return strings.ReplaceAll(text, "\t", "  ")
}

func someRules() gate.Rules {
	return gate.Rules{
		Mark: 0x1000000, Prefixes: []string{"cali", "tap"}, Names: []string{"vm7"}, Ready: []int{9, 12},
		NAT:     []netip.Prefix{netip.MustParsePrefix("10.65.0.0/16"), netip.MustParsePrefix("fd00:65::/48")},
		Pools:   []netip.Prefix{netip.MustParsePrefix("10.65.0.0/16"), netip.MustParsePrefix("10.66.0.0/16"), netip.MustParsePrefix("fd00:65::/48")},
		Gateway: netip.MustParseAddr("169.254.1.1"),
	}
}

const wholeTable = `table inet margay {
  set workloads {
    type ifname
    elements = { "vm7" }
  }

  set ready {
    type iface_index
    elements = { 9, 12 }
  }

  chain from_workloads {
    type filter hook prerouting priority raw; policy accept;
    iifname "cali*" meta mark & 0x01000000 != 0x01000000 counter drop
    iifname "tap*" meta mark & 0x01000000 != 0x01000000 counter drop
    iifname @workloads meta mark & 0x01000000 != 0x01000000 counter drop
  }

  chain to_workloads {
    type filter hook postrouting priority raw; policy accept;
    oifname "lo" ip daddr 169.254.1.1 counter drop
    oifname "cali*" oif != @ready counter drop
    oifname "tap*" oif != @ready counter drop
    oifname @workloads oif != @ready counter drop
  }

  chain outgoing {
    type nat hook postrouting priority srcnat; policy accept;
    ip daddr 10.65.0.0/16 return
    ip daddr 10.66.0.0/16 return
    ip6 daddr fd00:65::/48 return
    ip saddr 10.65.0.0/16 masquerade
    ip6 saddr fd00:65::/48 masquerade
  }
}
`

func TestTheTable(t *testing.T) {
	newHost(t)
	var g gate.Gate
	if err := g.Apply(someRules()); err != nil {
		t.Fatal(err)
	}
	if got := ruleset(t); got != wholeTable {
		t.Errorf("got\n%s", got)
	}
	if err := gate.Remove(); err != nil || ruleset(t) != "" {
		t.Errorf("%v; left\n%s", err, ruleset(t))
	}
	if err := gate.Remove(); err != nil {
		t.Error("removing what is not there:", err)
	}
}

func TestInterfacesComeAndGoWithoutANewTable(t *testing.T) {
	newHost(t)
	var g gate.Gate
	rules := someRules()
	rules.Names, rules.Ready = []string{"vm1", "vm2"}, nil
	if err := g.Apply(rules); err != nil {
		t.Fatal(err)
	}
	handle := tableHandle(t)
	if err := g.Apply(someRules()); err != nil {
		t.Fatal(err)
	}
	if got := ruleset(t); got != wholeTable {
		t.Errorf("got\n%s", got)
	}
	if tableHandle(t) != handle {
		t.Error("the table was made anew")
	}
}

func tableHandle(t *testing.T) string {
	out, err := exec.Command("nft", "-a", "list", "tables").CombinedOutput()
	if err != nil {
		t.Skip(err)
	}
	return string(out)
}

func TestASecondProcessReplacesTheTableInOneGo(t *testing.T) {
	newHost(t)
	var first, second gate.Gate
	rules := someRules()
	rules.Prefixes = []string{"old"}
	if err := first.Apply(rules); err != nil {
		t.Fatal(err)
	}
	if err := second.Apply(someRules()); err != nil {
		t.Fatal(err)
	}
	if got := ruleset(t); got != wholeTable {
		t.Errorf("got\n%s", got)
	}
}

func TestATableThatSomebodyRemovedIsMadeAnew(t *testing.T) {
	newHost(t)
	var g gate.Gate
	if err := g.Apply(someRules()); err != nil {
		t.Fatal(err)
	}
	if err := gate.Remove(); err != nil {
		t.Fatal(err)
	}
	if there, err := g.Check(); there || err != nil {
		t.Error("Check says", there, err)
	}
	if err := g.Apply(someRules()); err != nil || ruleset(t) != wholeTable {
		t.Errorf("%v\n%s", err, ruleset(t))
	}
	// Also when nobody checked: changing an element of what is gone makes the whole.
	if err := gate.Remove(); err != nil {
		t.Fatal(err)
	}
	rules := someRules()
	rules.Ready = []int{9}
	if err := g.Apply(rules); err != nil || !strings.Contains(ruleset(t), "elements = { 9 }") {
		t.Errorf("%v\n%s", err, ruleset(t))
	}
}

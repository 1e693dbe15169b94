package gate_test

import (
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/margay-project/margay/dataplane/gate"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/skip"
)

// ruleset returns the namespace's ruleset in the format of nft, without counters.
func ruleset(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		skip.For(t, "nft cannot list (not installed?): %v %s", err, out)
	}
	text := regexp.MustCompile(`counter packets \d+ bytes \d+`).ReplaceAllString(string(out), "counter")
	text = regexp.MustCompile(`,\s+`).ReplaceAllString(text, ", ") // old versions of nft print one element per line
	return strings.ReplaceAll(text, "\t", "  ")
}

func someRules() gate.Rules {
	return gate.Rules{
		Mark: 0x1000000, HostMark: 0x2000000, Prefixes: []string{"cali", "tap"}, Names: []string{"vm7"}, Ready: []int{9, 12},
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

  chain from_host {
    type filter hook output priority 2147483647; policy accept;
    meta skuid >= 0 return
    meta mark set meta mark | 0x02000000
  }

  chain forwarded {
    type filter hook forward priority 2147483647; policy accept;
    meta nfproto ipv6 meta mark & 0x02000000 != 0x00000000 meta mark set meta mark & 0xfdffffff
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

func TestApplyMakesTheTableAndRemoveDeletesIt(t *testing.T) {
	lab.Enter(t)
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
		t.Error("removing a missing table:", err)
	}
}

const toHostChains = `  chain for_host {
    type filter hook prerouting priority raw + 1; policy accept;
    meta priority 4d61:1 meta priority set none
    meta mark & 0x04000000 == 0x04000000 meta priority set 4d61:1
  }

  chain to_host {
    type filter hook input priority -2147483648; policy accept;
    iifname "cali*" meta priority != 4d61:1 counter drop
    iifname "tap*" meta priority != 4d61:1 counter drop
    iifname @workloads meta priority != 4d61:1 counter drop
  }

`

func TestPacketsWithoutTheToHostMarkAreDroppedAtTheHost(t *testing.T) {
	lab.Enter(t)
	var g gate.Gate
	rules := someRules()
	rules.ToHostMark = 0x4000000
	if err := g.Apply(rules); err != nil {
		t.Fatal(err)
	}
	at := strings.Index(wholeTable, "  chain outgoing")
	if got := ruleset(t); got != wholeTable[:at]+toHostChains+wholeTable[at:] {
		t.Errorf("got\n%s", got)
	}
	if difference, err := g.Check(); difference != "" || err != nil {
		t.Errorf("read back: %q %v", difference, err)
	}
	rules.ToHostMark = 0 // the action has changed
	if err := g.Apply(rules); err != nil {
		t.Fatal(err)
	}
	if got := ruleset(t); got != wholeTable {
		t.Errorf("got\n%s", got)
	}
}

const forwardChains = `  chain judged {
    type filter hook forward priority -2147483648; policy accept;
    iif @ready meta mark set meta mark | 0x01000000
    oif @ready meta mark set meta mark | 0x01000000
    meta mark & 0x01000000 == 0x01000000 counter
  }

  chain passed {
    type filter hook forward priority 2147483647; policy accept;
    meta mark & 0x01000000 == 0x01000000 counter
  }

`

func TestForwardedPacketsAreMarkedBesideOtherFirewalls(t *testing.T) {
	lab.Enter(t)
	var g gate.Gate
	rules := someRules()
	rules.Forward = true
	if err := g.Apply(rules); err != nil {
		t.Fatal(err)
	}
	at := strings.Index(wholeTable, "  chain outgoing")
	if got := ruleset(t); got != wholeTable[:at]+forwardChains+wholeTable[at:] {
		t.Errorf("got\n%s", got)
	}
	if difference, err := g.Check(); difference != "" || err != nil {
		t.Errorf("read back: %q %v", difference, err)
	}
	if lost, err := gate.Lost(); lost != 0 || err != nil {
		t.Error("lost", lost, err)
	}
	if err := g.Apply(someRules()); err != nil || ruleset(t) != wholeTable {
		t.Errorf("%v\n%s", err, ruleset(t))
	}
}

const tableOfPorts = `table bridge margay {
  set workloads {
    type ifname
    elements = { "vm7" }
  }

  set ready {
    type iface_index
    elements = { 9, 12 }
  }

  chain from_ports {
    type filter hook prerouting priority -2147483648; policy accept;
    iifname "cali*" meta mark & 0x01000000 != 0x01000000 counter drop
    iifname "tap*" meta mark & 0x01000000 != 0x01000000 counter drop
    iifname @workloads meta mark & 0x01000000 != 0x01000000 counter drop
  }

  chain control_from_ports {
    type filter hook input priority -2147483648; policy accept;
    iifname "cali*" meta mark & 0x01000000 != 0x01000000 counter drop
    iifname "tap*" meta mark & 0x01000000 != 0x01000000 counter drop
    iifname @workloads meta mark & 0x01000000 != 0x01000000 counter drop
  }

  chain to_ports {
    type filter hook postrouting priority -2147483648; policy accept;
    oifname "cali*" oif != @ready counter drop
    oifname "tap*" oif != @ready counter drop
    oifname @workloads oif != @ready counter drop
  }
}
`

// A second table closes ports of bridges. It comes, changes, is repaired and goes with the first.
func TestPortsOfBridgesHaveATable(t *testing.T) {
	lab.Enter(t)
	var g gate.Gate
	rules := someRules()
	rules.Ports, rules.Ready = true, nil
	for _, ready := range [][]int{nil, {9, 12}} {
		rules.Ready = ready
		if err := g.Apply(rules); err != nil {
			t.Fatal(err)
		}
	}
	if got := ruleset(t); got != wholeTable+tableOfPorts {
		t.Errorf("got\n%s", got)
	}
	for command, found := range map[string]string{
		"flush chain bridge margay to_ports": "family bridge: chain to_ports: it has 0 rules instead of 3",
		"delete table bridge margay":         "family bridge: the table is gone",
	} {
		if difference, err := g.Check(); difference != "" || err != nil {
			t.Errorf("before %s: %q %v", command, difference, err)
		}
		if out, err := exec.Command("nft", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", command, err, out)
		}
		if difference, err := g.Check(); difference != found || err != nil {
			t.Errorf("after %s: %q %v, want %q", command, difference, err, found)
		}
		if err := g.Apply(rules); err != nil || ruleset(t) != wholeTable+tableOfPorts {
			t.Errorf("after %s: %v\n%s", command, err, ruleset(t))
		}
	}
	rules.Ports = false
	if err := g.Apply(rules); err != nil || ruleset(t) != wholeTable {
		t.Errorf("without ports: %v\n%s", err, ruleset(t))
	}
	rules.Ports = true
	if err := g.Apply(rules); err != nil {
		t.Fatal(err)
	}
	if err := gate.Remove(); err != nil || ruleset(t) != "" {
		t.Errorf("%v; left\n%s", err, ruleset(t))
	}
}

// Packets that come by a bridge with workloads reach the host only if they were judged as for it. Packets of the host to the bridge are marked
// in any case.
func TestPacketsByABridge(t *testing.T) {
	lab.Enter(t)
	var g gate.Gate
	rules := someRules()
	rules.ToHostMark, rules.Bridges = 0x4000000, []string{"br0"}
	if err := g.Apply(rules); err != nil {
		t.Fatal(err)
	}
	got := ruleset(t)
	for _, rule := range []string{
		`iifname "br0" meta mark & 0x05000000 == 0x01000000 meta priority set 4d61:2`,
		`iifname "br0" meta priority 4d61:2 counter drop`,
		"oifname \"br0\" meta mark set meta mark | 0x02000000\n    meta skuid >= 0 return",
	} {
		if !strings.Contains(got, rule) {
			t.Errorf("no rule %s in\n%s", rule, got)
		}
	}
	if difference, err := g.Check(); difference != "" || err != nil {
		t.Errorf("read back: %q %v", difference, err)
	}
}

func TestChangesOfInterfacesKeepTheTable(t *testing.T) {
	lab.Enter(t)
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
		skip.For(t, "%v", err)
	}
	return string(out)
}

func TestASecondProcessReplacesTheTableInOneTransaction(t *testing.T) {
	lab.Enter(t)
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

func TestARemovedTableIsRestored(t *testing.T) {
	lab.Enter(t)
	var g gate.Gate
	if err := g.Apply(someRules()); err != nil {
		t.Fatal(err)
	}
	if err := gate.Remove(); err != nil {
		t.Fatal(err)
	}
	if difference, err := g.Check(); difference != "the table is gone" || err != nil {
		t.Error("Check says", difference, err)
	}
	if err := g.Apply(someRules()); err != nil || ruleset(t) != wholeTable {
		t.Errorf("%v\n%s", err, ruleset(t))
	}
	// Also without a Check: a change of an element of a missing table makes the whole table.
	if err := gate.Remove(); err != nil {
		t.Fatal(err)
	}
	rules := someRules()
	rules.Ready = []int{9}
	if err := g.Apply(rules); err != nil || !strings.Contains(ruleset(t), "elements = { 9 }") {
		t.Errorf("%v\n%s", err, ruleset(t))
	}
}

// Each kind of change by others is found, reported and repaired. Nothing else is reported.
func TestAChangedTableIsRepaired(t *testing.T) {
	lab.Enter(t)
	var g gate.Gate
	if err := g.Apply(someRules()); err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct{ command, found string }{
		{"flush chain inet margay outgoing", "chain outgoing: it has 0 rules instead of 5"},
		{"flush table inet margay", "chain from_workloads: it has 0 rules instead of 3"},
		{"flush ruleset", "the table is gone"},
		{"delete chain inet margay to_workloads", "chain to_workloads is gone"},
		{"insert rule inet margay from_workloads accept", "chain from_workloads: it has 4 rules instead of 3"},
		{"replace rule inet margay from_workloads handle HANDLE accept", "chain from_workloads: rule 1 differs"},
		{"replace rule inet margay from_workloads handle HANDLE iifname \"cali*\" meta mark and 0x1000000 != 0x1000000 limit rate 1/second counter drop",
			"chain from_workloads: rule 1 differs"},
		{"chain inet margay to_workloads { policy drop; }", "chain to_workloads: it has another policy"},
		{"add chain inet margay other { type filter hook prerouting priority -400; policy drop; }", "chain other is not ours"},
		{"add table inet margay { flags dormant; }", "the table has flags: it is dormant, or another process owns it"},
		{"delete element inet margay ready { 9 }; add element inet margay ready { 77 }", "the set ready has 2 other elements"},
		{"flush set inet margay workloads", "the set workloads has 1 other elements"},
	} {
		if difference, err := g.Check(); difference != "" || err != nil {
			t.Errorf("before %s: %q %v", change.command, difference, err)
		}
		command := strings.Replace(change.command, "HANDLE", ruleHandle(t, "from_workloads"), 1)
		if out, err := exec.Command("nft", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", command, err, out)
		}
		if difference, err := g.Check(); difference != change.found || err != nil {
			t.Errorf("after %s: %q %v, want %q", command, difference, err, change.found)
		}
		if err := g.Apply(someRules()); err != nil || ruleset(t) != wholeTable {
			t.Errorf("after %s: %v\n%s", command, err, ruleset(t))
		}
	}
}

// ruleHandle returns the handle of a chain's first rule.
func ruleHandle(t *testing.T, chain string) string {
	t.Helper()
	out, err := exec.Command("nft", "-a", "list", "chain", "inet", "margay", chain).CombinedOutput()
	found := regexp.MustCompile(`drop # handle (\d+)`).FindSubmatch(out)
	if err != nil || found == nil {
		t.Fatalf("%v %s", err, out)
	}
	return string(found[1])
}

func TestSoundChecksTheTableOfAnotherProcess(t *testing.T) {
	lab.Enter(t)
	sound := func(want bool) {
		t.Helper()
		if got, err := gate.Sound(0x1000000); got != want || err != nil {
			t.Errorf("Sound is %v %v, want %v", got, err, want)
		}
	}
	sound(false)
	var g gate.Gate
	for _, rules := range []gate.Rules{{Mark: 0x1000000}, someRules()} {
		if err := g.Apply(rules); err != nil {
			t.Fatal(err)
		}
		sound(true)
	}
	for _, command := range []string{"flush chain inet margay to_workloads", "flush table inet margay"} {
		if out, err := exec.Command("nft", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", command, err, out)
		}
		sound(false)
	}
}

func TestTransactionsOfOtherProgramsAreNoticed(t *testing.T) {
	lab.Enter(t)
	heard := make(chan gate.Changed, 100)
	l, err := gate.Listen(func(c gate.Changed) { heard <- c })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var g gate.Gate
	if err := g.Apply(someRules()); err != nil { // our own transaction is not reported
		t.Fatal(err)
	}
	for _, change := range []struct {
		command      string
		ours, others bool
	}{
		{"flush chain inet margay outgoing", true, false},
		{"add table ip other", false, true},
		{"add set ip other blocked { type ipv4_addr; }", false, true},
		{"add table inet margay2", false, true},
		{"delete element inet margay ready { 9 }", true, false},
	} {
		if out, err := exec.Command("nft", change.command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", change.command, err, out)
		}
		got := <-heard
		if got.Ours != change.ours || got.Others != change.others || !strings.HasPrefix(got.By, "nft (process ") {
			t.Errorf("%s is reported as %+v", change.command, got)
		}
	}
}

func TestAGateWithoutAMarkIsRefused(t *testing.T) {
	lab.Enter(t)
	var g gate.Gate
	rules := someRules()
	rules.Mark = 0
	if err := g.Apply(rules); err == nil || !strings.Contains(err.Error(), "mark") {
		t.Errorf("error %v, want one about the mark: every packet matches an empty mark", err)
	}
}

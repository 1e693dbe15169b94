package dataplane

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/skip"
)

// needs skips the test on a machine that lacks a tool.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			skip.For(t, "needs %s: %v", tool, err)
		}
	}
}

// protected is a host with two VMs. One of them accepts only one TCP port.
func (h *host) protected() (d *driver, client, server *vm, c *clock) {
	h.Helper()
	client, server = h.pair()
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	c = &clock{time.Now()}
	return h.run(w, Options{clock: c.time}), client, server, c
}

// settleOverTime applies empty deltas and moves the clock forward until a condition holds.
func (d *driver) settleOverTime(c *clock, is func() bool) {
	d.h.Helper()
	d.settle(func() bool {
		if is() {
			return true
		}
		c.now = c.now.Add(time.Second)
		return false
	})
}

// iptables drops forwarded packets, as Docker and ufw configure it. Packets that policy allows pass nevertheless, and no
// others.
func TestPolicyWorksBesideIptables(t *testing.T) {
	for _, variant := range []string{"nft", "legacy"} {
		for name, drop := range map[string][]string{
			"policy":      {"-P", "FORWARD", "DROP"},
			"last rule":   {"-A", "FORWARD", "-j", "REJECT"},
			"with Docker": {"-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT"},
		} {
			t.Run(variant+" "+name, func(t *testing.T) {
				v4, v6 := "iptables-"+variant, "ip6tables-"+variant
				needs(t, v4, v6)
				h := newHost(t)
				for _, tool := range []string{v4, v6} {
					if name == "with Docker" {
						h.MustRun(tool, "-P", "FORWARD", "DROP")
					}
					h.MustRun(append([]string{tool}, drop...)...)
				}
				before := h.MustRun(v4, "-S") + h.MustRun(v6, "-S")
				d, client, server, c := h.protected()
				d.settleOverTime(c, func() bool {
					return client.ReachesAtOnce("tcp", server.Addresses[0], 80) && client.ReachesAtOnce("tcp", server.Addresses[1], 80)
				})
				if client.ReachesAtOnce("tcp", server.Addresses[0], 81) || client.ReachesAtOnce("tcp", server.Addresses[1], 81) {
					t.Error("open although policy denies it")
				}
				if p := d.Status().Problems; len(p) > 0 {
					t.Errorf("problems %v", p)
				}
				must(t, d.Uninstall())
				if after := h.MustRun(v4, "-S") + h.MustRun(v6, "-S"); after != before {
					t.Errorf("left\n%s\nthat was\n%s", after, before)
				}
			})
		}
	}
}

// Other programs flush the rules of iptables while felix runs, and then begin to drop.
func TestTheRuleInIptablesIsRestored(t *testing.T) {
	for _, tool := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(tool, func(t *testing.T) {
			needs(t, tool)
			h := newHost(t)
			d, client, server, c := h.protected()
			defer func() { must(t, d.Uninstall()) }()
			reach := func() bool { return client.ReachesAtOnce("tcp", server.Addresses[0], 80) }
			d.settleOverTime(c, reach)
			if rules := h.MustRun("nft", "list", "ruleset"); strings.Contains(rules, "table ip filter") {
				t.Errorf("felix makes tables of iptables on a host that does not use it:\n%s", rules)
			}
			for range 2 {
				h.MustRun(tool, "-F", "FORWARD")
				h.MustRun(tool, "-P", "FORWARD", "DROP")
				d.settleOverTime(c, func() bool { return strings.Contains(h.MustRun(tool, "-S", "FORWARD"), "margay") })
				d.settleOverTime(c, reach)
			}
			must(t, d.Apply(calc.Delta{}))
			if n := strings.Count(h.MustRun(tool, "-S", "FORWARD"), "margay"); n != 1 {
				t.Errorf("%d rules", n)
			}
		})
	}
}

// A chain of another program in nftables drops packets that policy allows. Felix must not change it. Status names the chain
// and gives advice.
func TestStatusNamesAnotherTableThatDrops(t *testing.T) {
	needs(t, "nft")
	for name, chain := range map[string]string{
		"by its policy":    "{ type filter hook forward priority filter; policy drop; }",
		"by its last rule": "{ type filter hook forward priority filter + 10; ct state invalid drop; counter reject with icmpx admin-prohibited; }",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			d, client, server, c := h.protected()
			defer func() { must(t, d.Uninstall()) }()
			d.settleOverTime(c, func() bool { return client.ReachesAtOnce("tcp", server.Addresses[0], 80) })
			h.MustRun("nft", "table inet corp { chain forwarding "+chain+"\n}")
			advice := ""
			d.settleOverTime(c, func() bool {
				client.ReachesAtOnce("tcp", server.Addresses[0], 80)
				for _, p := range d.Status().Problems {
					if strings.Contains(p, "nftables table inet corp, chain forwarding") {
						_, advice, _ = strings.Cut(p, "add a rule that accepts them: ")
					}
				}
				return advice != ""
			})
			h.MustRun("sh", "-c", advice)
			d.settleOverTime(c, func() bool {
				return client.ReachesAtOnce("tcp", server.Addresses[0], 80) && len(d.Status().Problems) == 0
			})
			if client.ReachesAtOnce("tcp", server.Addresses[0], 81) {
				t.Error("open although policy denies it")
			}
		})
	}
}

// A firewall that drops by default and accepts the VMs by its own rules is no problem.
func TestAnotherTableThatAcceptsIsNoProblem(t *testing.T) {
	needs(t, "nft")
	h := newHost(t)
	h.MustRun("nft", `table inet corp { chain forwarding { type filter hook forward priority filter; policy drop; iifname "cali*" accept; oifname "cali*" accept; }
}`)
	d, client, server, c := h.protected()
	defer func() { must(t, d.Uninstall()) }()
	d.settleOverTime(c, func() bool { return client.ReachesAtOnce("tcp", server.Addresses[0], 80) })
	for range 20 {
		c.now = c.now.Add(time.Second)
		must(t, d.Apply(calc.Delta{}))
	}
	if p := d.Status().Problems; len(p) > 0 {
		t.Errorf("problems %v", p)
	}
}

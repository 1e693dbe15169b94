package dataplane

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
)

// A rule that translates addresses, or one that routes by a mark, may send a workload's packet to the host after the program
// has judged it as forwarded. The packet must not arrive when defaultEndpointToHostAction is Drop.
func TestAddressTranslationDoesNotBypassEndpointToHostAction(t *testing.T) {
	needs(t, "nft")
	away, away6 := netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("2001:db8:51::9")
	h := newHost(t)
	h.uplink()
	h.Up("eth0", "2001:db8::2/128")
	h.MustRun("ip", "route", "add", "2001:db8:51::/48", "dev", "eth0")
	client, server := h.pair()
	h.Echo(8080)
	h.MustRun("nft", `table inet translations { chain pre { type nat hook prerouting priority dstnat;
		ip daddr 198.51.100.9 tcp dport 80 dnat ip to 192.0.2.2:8080
		ip daddr 198.51.100.9 udp dport 80 dnat ip to 192.0.2.2:8080
		ip6 daddr 2001:db8:51::9 tcp dport 80 redirect to :8080
	}
}`)
	w := newWorld()
	w.workload(client)
	w.workload(server)
	w.Config.ToHost = true
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	ways := []struct {
		network string
		to      netip.Addr
		port    int
	}{{"tcp", away, 80}, {"udp", away, 80}, {"tcp", away6, 80}, {"tcp", hostAddress, 8080}}
	for _, c := range ways {
		if !client.Reaches(c.network, c.to, c.port) {
			t.Errorf("%s %v %d: not reached although the action is Accept", c.network, c.to, c.port)
		}
	}
	w.Config.ToHost = false
	must(t, d.become(w))
	for _, c := range ways {
		if client.ReachesAtOnce(c.network, c.to, c.port) {
			t.Errorf("%s %v %d: reached although the action is Drop", c.network, c.to, c.port)
		}
	}
	// This host can still open connections to the workload.
	for _, to := range server.Addresses {
		for _, network := range []string{"tcp", "udp"} {
			if !h.Reaches(network, to, 80) {
				t.Errorf("this host does not reach %s %v", network, to)
			}
		}
		h.MustRun("ping", "-c", "1", "-W", "60", to.String())
	}
	if !client.Reaches("tcp", server.Addresses[0], 80) {
		t.Error("workloads do not reach each other")
	}
}

// ICMP errors that answer packets of this host arrive while the action is Drop.
func TestICMPErrorsReachTheHostWhileTheActionIsDrop(t *testing.T) {
	h := newHost(t)
	h.uplink()
	h.Up("eth0", "2001:db8::2/128")
	_, server := h.pair()
	w := newWorld()
	w.workload(server)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	for _, to := range server.Addresses {
		var dialer net.Dialer
		c, err := dialer.DialContext(context.Background(), "udp", netip.AddrPortFrom(to, 9).String())
		must(t, err)
		defer c.Close()
		h.until("an error that says that nobody listens", func() bool {
			_, err := c.Write([]byte("?"))
			return errors.Is(err, unix.ECONNREFUSED)
		})
	}
}

// Programs of another version do not mark packets from workloads to this host. The gate does not require the mark until new
// programs have replaced them, so answers to this host arrive even while the replacement fails.
func TestAnswersArriveWhileProgramsOfAnotherVersionRun(t *testing.T) {
	needs(t, "nft")
	h := newHost(t)
	h.uplink()
	h.Up("eth0", "2001:db8::2/128")
	_, server := h.pair()
	w := newWorld()
	w.workload(server)
	d := h.run(w, Options{})
	answers := func() bool {
		return h.Reaches("tcp", server.Addresses[0], 80) && h.Reaches("udp", server.Addresses[1], 80)
	}
	if !answers() {
		t.Fatal("answers to this host are lost before any change")
	}
	atomic.StoreUint32(&d.shared.Settings.ToHostMark, 0)
	must(t, d.Close())
	h.MustRun("nft", "flush chain inet margay to_host; delete chain inet margay to_host")
	settings, err := filepath.Glob(filepath.Join(h.pins, "config_*"))
	must(t, err)
	must(t, os.Remove(settings[0])) // another version has other settings
	broken, c := true, &clock{time.Now()}
	step := func(what string) error {
		if broken && what == "load program" {
			return errors.New("injected")
		}
		return nil
	}
	d = h.start(Options{clock: c.time, step: step})
	defer func() { must(t, d.Uninstall()) }()
	d.InSync()
	if err := d.become(w); err == nil {
		t.Fatal("no program could be loaded, but there is no error")
	}
	if !answers() {
		t.Error("answers to this host are lost while programs of another version run")
	}
	broken = false
	if rules := h.MustRun("nft", "list", "ruleset"); strings.Contains(rules, "to_host") {
		t.Errorf("the gate requires a mark that the programs do not set:\n%s", rules)
	}
	d.settleOverTime(c, func() bool { return strings.Contains(h.MustRun("nft", "list", "ruleset"), "to_host") })
	if !answers() {
		t.Error("answers to this host are lost")
	}
	must(t, d.Close())
	broken = true // of the same version: the gate still requires the mark
	d.Driver = h.start(Options{step: step}).Driver
	d.InSync()
	if err := d.Apply(calc.Diff(nil, w.clone())); err == nil {
		t.Fatal("no program could be loaded, but there is no error")
	}
	if rules := h.MustRun("nft", "list", "ruleset"); !strings.Contains(rules, "to_host") || !answers() {
		t.Errorf("after a restart the gate does not require the mark, or answers are lost:\n%s", rules)
	}
}

// Other programs overwrite the mark of each incoming packet: wg-quick and routing by connection marks restore it. Packets
// that policy allows to this host must arrive nevertheless, and no others. Other firewalls let the judged packets pass.
func TestAllowedPacketsArriveAlthoughOthersOverwriteTheMark(t *testing.T) {
	needs(t, "nft")
	h := newHost(t)
	outside := h.uplink()
	outside.Echo(80)
	outside.RouteVia("10.65.0.0/16", hostAddress.String())
	h.Up("eth0", "2001:db8::2/128")
	client, server := h.pair()
	h.Echo(8080)
	h.MustRun("nft", `table inet translations {
	chain restore { type filter hook prerouting priority mangle; meta mark set ct mark; }
	chain pre { type nat hook prerouting priority dstnat; ip daddr 198.51.100.9 tcp dport 80 dnat ip to 192.0.2.2:8080; }
	chain forwarding { type filter hook forward priority filter; policy drop; meta mark & 0x01000000 == 0x01000000 accept; }
}`)
	h.MustRun("ip", "route", "add", "198.51.100.0/24", "dev", "eth0")
	w := newWorld()
	w.workload(client)
	w.workload(server)
	c := &clock{time.Now()}
	d := h.run(w, Options{clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	for _, to := range server.Addresses {
		for _, network := range []string{"tcp", "udp"} {
			if !h.Reaches(network, to, 80) {
				t.Errorf("this host does not reach %s %v", network, to)
			}
		}
		h.MustRun("ping", "-c", "1", "-W", "60", "-s", "4000", to.String()) // in fragments
	}
	if client.ReachesAtOnce("tcp", netip.MustParseAddr("198.51.100.9"), 80) || client.ReachesAtOnce("tcp", hostAddress, 8080) {
		t.Error("this host is reached although the action is Drop")
	}
	d.settleOverTime(c, func() bool { return strings.Contains(h.MustRun("nft", "list", "ruleset"), "chain judged") })
	if !client.Reaches("tcp", server.Addresses[0], 80) {
		t.Error("workloads do not reach each other")
	}
	if !client.Reaches("tcp", outside.Addresses[0], 80) {
		t.Error("workloads do not reach others")
	}
}

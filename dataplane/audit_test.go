package dataplane

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/gate"
)

// repairLog keeps the log lines about repairs.
type repairLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *repairLog) Levels() []logrus.Level { return logrus.AllLevels }

func (l *repairLog) Fire(e *logrus.Entry) error {
	if changes, ok := e.Data["changes"].(string); ok {
		l.mu.Lock()
		l.lines = append(l.lines, strings.SplitN(e.Message, ":", 2)[0]+": "+changes)
		l.mu.Unlock()
	}
	return nil
}

func (l *repairLog) drain() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return strings.Join(lines, "; ")
}

func writeSetting(t *testing.T, path, value string) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/"+path, []byte(value), 0))
}

func readSetting(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/" + path)
	must(t, err)
	return strings.TrimSpace(string(text))
}

// Other programs change state of the Driver. The Driver repairs it, logs one line, and counts the repair. It does so at once
// where the kernel sends a notification.
func TestChangesByOthersAreRepaired(t *testing.T) {
	h := newHost(t)
	log := &repairLog{}
	h.log.Logger.AddHook(log)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.workload(server)
	pool := netip.MustParsePrefix("10.65.0.0/16")
	w.Pools[pool] = calc.Pool{CIDR: pool, NATOutgoing: true}
	c := &clock{time.Now()}
	d := h.run(w, Options{clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	d.settle(func() bool { return client.ReachesAtOnce("tcp", server.Addresses[0], 80) })
	if told := log.drain(); told != "" {
		t.Errorf("repair logged without a change by others: %s", told)
	}
	setting := func(path, value string) func() bool {
		return func() bool { return readSetting(t, path) == value }
	}
	for _, change := range []struct {
		name string
		do   func()
		is   func() bool
		told string // the beginning of the line
	}{
		{"a route is deleted", func() { h.MustRun("ip", "route", "del", "10.65.0.2") },
			func() bool { return strings.Contains(h.MustRun("ip", "route", "show", "10.65.0.2"), "cali2") }, "routes: 10.65.0.2/32 (gone)"},
		{"all routes are deleted", func() {
			h.MustRun("ip", "route", "flush", "proto", "86")
			h.MustRun("ip", "-6", "route", "flush", "proto", "86")
		},
			func() bool {
				return strings.Count(h.MustRun("ip", "route", "show", "proto", "86"), "\n") == 3 &&
					strings.Count(h.MustRun("ip", "-6", "route", "show", "proto", "86"), "\n") == 2
			}, "routes: 10.65.0.1/32 (gone), "},
		{"a route with our protocol number is added", func() { h.MustRun("ip", "route", "add", "10.65.0.9", "dev", "cali1", "proto", "86") },
			func() bool { return h.MustRun("ip", "route", "show", "10.65.0.9") == "" }, "routes: 10.65.0.9/32 (not ours, but with our mark)"},
		{"IPv4 forwarding changes", func() { writeSetting(t, "net/ipv4/ip_forward", "0") }, setting("net/ipv4/ip_forward", "1"), "settings: net/ipv4/"},
		{"IPv6 forwarding changes", func() { writeSetting(t, "net/ipv6/conf/all/forwarding", "0") }, setting("net/ipv6/conf/all/forwarding", "1"), "settings: net/ipv6/"},
		{"proxy ARP changes", func() { writeSetting(t, "net/ipv4/conf/cali1/proxy_arp", "0") }, setting("net/ipv4/conf/cali1/proxy_arp", "1"),
			"settings: net/ipv4/conf/cali1/proxy_arp (changed)"},
		{"proxy NDP changes", func() { writeSetting(t, "net/ipv6/conf/cali1/proxy_ndp", "0") }, setting("net/ipv6/conf/cali1/proxy_ndp", "1"),
			"settings: net/ipv6/conf/cali1/proxy_ndp (changed)"},
		{"the reverse path filter changes", func() { writeSetting(t, "net/ipv4/conf/cali1/rp_filter", "1") }, setting("net/ipv4/conf/cali1/rp_filter", "2"),
			"settings: net/ipv4/conf/cali1/rp_filter (changed)"},
		{"a chain of the gate is flushed", func() { h.MustRun("nft", "flush", "chain", "inet", "margay", "outgoing") },
			func() bool {
				return strings.Contains(h.MustRun("nft", "list", "table", "inet", "margay"), "masquerade")
			},
			"gate: chain outgoing: it has 0 rules instead of 2, changed by nft (process "},
		{"all chains of the gate are flushed", func() { h.MustRun("nft", "flush", "table", "inet", "margay") },
			func() bool { return strings.Contains(h.MustRun("nft", "list", "table", "inet", "margay"), "drop") }, "gate: chain from_workloads"},
		{"the whole ruleset is flushed", func() { h.MustRun("nft", "flush", "ruleset") },
			func() bool { there, _ := gate.Exists(); return there }, "gate: the table is gone, changed by nft (process "},
		// The kernel sends no notification of these changes.
		{"accept_ra of a workload changes", func() { writeSetting(t, "net/ipv6/conf/cali1/accept_ra", "1"); c.later() },
			setting("net/ipv6/conf/cali1/accept_ra", "0"), "settings: net/ipv6/conf/cali1/accept_ra (changed)"},
		{"accept_ra of the host changes", func() { writeSetting(t, "net/ipv6/conf/lo/accept_ra", "1"); c.later() },
			setting("net/ipv6/conf/lo/accept_ra", "2"), "settings: net/ipv6/conf/all/forwarding (changed)"},
		{"an address of the host is deleted", func() { must(t, d.shared.Locals.Delete(bpf.Address(netip.MustParseAddr("127.0.0.1")))); c.later() },
			func() bool {
				_, found, err := d.shared.Locals.Get(bpf.Address(netip.MustParseAddr("127.0.0.1")))
				return found && err == nil
			}, "host addresses: 127.0.0.1 (gone)"},
	} {
		before := total(d.Status().Repairs)
		c.now = c.now.Add(2 * readPause)
		change.do()
		d.settle(change.is)
		must(t, d.Apply(calc.Delta{}))
		if told := log.drain(); !strings.HasPrefix(told, change.told) {
			t.Errorf("%s: logged %q, want %q", change.name, told, change.told)
		}
		if total(d.Status().Repairs) == before {
			t.Errorf("%s: the repair is not counted: %v", change.name, d.Status().Repairs)
		}
		if !client.Reaches("tcp", server.Addresses[0], 80) {
			t.Errorf("%s: the server does not answer", change.name)
		}
	}
}

// later moves the clock past the next complete audit.
func (c *clock) later() { c.now = c.now.Add(2 * readBack) }

func total(counts map[string]uint64) (n uint64) {
	for _, count := range counts {
		n += count
	}
	return n
}

// Changes by the Driver itself, and changes that the kernel makes together with an interface, do not count as repairs.
func TestOwnChangesAreNotRepairs(t *testing.T) {
	h := newHost(t)
	log := &repairLog{}
	h.log.Logger.AddHook(log)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	id := w.workload(server)
	c := &clock{time.Now()}
	d := h.run(w, Options{clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	for range 3 {
		server.Unplug()
		c.later()
		d.settle(func() bool { return d.stateOfInterface("cali2") == Waiting })
		server.Replug()
		c.later()
		d.settle(func() bool { return d.stateOfInterface("cali2") == Enforced })
		delete(w.Endpoints, id)
		must(t, d.become(w))
		c.later()
		id = w.workload(server)
		must(t, d.become(w))
		c.later()
		d.settle(func() bool { return client.ReachesAtOnce("tcp", server.Addresses[0], 80) })
	}
	if told := log.drain(); told != "" || len(d.Status().Repairs) > 0 {
		t.Errorf("repairs %v: %s", d.Status().Repairs, told)
	}
}

// Felix starts while the datastore is out of reach, and the gate has no rules. Interfaces that appear must be closed.
func TestAnEmptyGateIsFilledBeforeTheInputIsComplete(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	d := h.run(w, Options{})
	must(t, d.Close())
	h.MustRun("nft", "flush", "table", "inet", "margay")
	d = h.start(Options{})
	defer func() { must(t, d.Uninstall()) }()
	config := newWorld()
	must(t, d.become(config))
	if rules := h.MustRun("nft", "list", "table", "inet", "margay"); !strings.Contains(rules, `iifname "cali*"`) {
		t.Errorf("the gate is open:\n%s", rules)
	}
	_ = server
}

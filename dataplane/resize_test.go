package dataplane

import (
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
)

// hasTableOf reports whether a table of this size, and no other, holds the connections.
func (d *driver) hasTableOf(size int) func() bool {
	return func() bool {
		s := d.Status()
		return s.ConnectionsLimit == size && d.shared.Resizing() == bpf.FlowsOfOneSize && s.Generations == 1 && d.generations.renew == ""
	}
}

func TestTheConnectionTableChangesItsSizeRepeatedly(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.workload(server)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	if !client.Reaches("udp", server.Addresses[0], 80) {
		t.Fatal("the server does not answer")
	}
	conn, err := client.Dial("tcp", server.Addresses[0], 80)
	must(t, err)
	defer conn.Close()
	traffic := client.Stream(server.Addresses[0], 80, aTick)
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 3 {
		var size int
		for range 3 { // one request after the other: the last one counts
			size = 200 + random.IntN(20000)
			w.Config.FlowTableSize = size
			must(t, d.become(w))
			for range random.IntN(4) {
				must(t, d.Apply(calc.Delta{}))
			}
		}
		d.settle(d.hasTableOf(size))
		if problems := d.Status().Problems; len(problems) != 0 {
			t.Errorf("size %d: %q", size, problems)
		}
		d.settle(func() bool { return lab.Answered(conn) })
	}
	if sent := traffic.End(); lab.Lost(sent) != 0 {
		t.Errorf("%d of %d packets were lost", lab.Lost(sent), len(sent))
	}
}

func TestASmallerConnectionTableWaitsUntilConnectionsFit(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.workload(server)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	if !client.Reaches("tcp", server.Addresses[0], 80) {
		t.Fatal("the server does not answer")
	}
	var open []net.Conn
	for range 50 {
		conn, err := client.Dial("tcp", server.Addresses[0], 80)
		must(t, err)
		defer conn.Close()
		open = append(open, conn)
		d.settle(func() bool { return lab.Answered(conn) })
	}
	d.sweepNow()
	before := d.Status().ConnectionsLimit
	w.Config.FlowTableSize = 40
	must(t, d.become(w))
	waits := func() bool {
		problems := d.Status().Problems
		return len(problems) == 1 && strings.Contains(problems[0], "bpfMapSizeConntrack 40 is not in force")
	}
	d.settle(waits)
	if got := d.Status(); got.ConnectionsLimit != before || got.Connections < 50 {
		t.Errorf("%d connections of %d, want at least 50 of %d", got.Connections, got.ConnectionsLimit, before)
	}
	w.Config.FlowTableSize = 8000
	must(t, d.become(w))
	d.settle(d.hasTableOf(8000))
	w.Config.FlowTableSize = 40
	must(t, d.become(w))
	d.settle(waits)
	must(t, d.shared.Connections(func(c bpf.Connection) bool { // all but ten end
		for _, conn := range open[:10] {
			if conn.LocalAddr().(*net.TCPAddr).Port == int(c.Opener.Port()) {
				return true
			}
		}
		must(t, d.shared.DeleteConnection(c.Key))
		return true
	}))
	d.sweepNow()
	d.settle(d.hasTableOf(40))
	for _, conn := range open[:10] {
		d.settle(func() bool { return lab.Answered(conn) })
	}
}

// sweepNow makes the next pass sweep and count the connections, and waits for the counts.
func (d *driver) sweepNow() {
	d.flows.wait()
	d.flows.due = time.Time{}
	must(d.h, d.Apply(calc.Delta{}))
	d.flows.wait()
}

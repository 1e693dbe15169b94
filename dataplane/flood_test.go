package dataplane

import (
	"math"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/margay-project/margay/internal/lab"
)

// One VM floods while others wait for answers. Policy allows answers only to a VM that has asked.
func TestAnswersArriveWhileAnotherVMFloods(t *testing.T) {
	const questions, flood = 20, 20_000 // the table has room for 4,096 unproven connections
	h := newHost(t)
	outside := h.uplink()
	outside.RouteVia("10.65.0.0/16", hostAddress.String())
	quiet, flooder := h.plug("cali1", "10.65.0.1"), h.plug("cali2", "10.65.0.2")
	w := newWorld()
	w.protect(w.workload(quiet), 80)
	w.workload(flooder)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	server := outside.listens(53)
	answered := func(wait time.Duration) (n int) {
		var asking []net.Conn
		for range questions {
			c, err := quiet.Dial("udp", outside.Addresses[0], 53)
			must(t, err)
			defer c.Close()
			_, err = c.Write([]byte("?"))
			must(t, err)
			asking = append(asking, c)
		}
		var from []net.Addr
		for buffer := make([]byte, 16); len(from) < questions; {
			_, who, err := server.ReadFrom(buffer)
			must(t, err)
			from = append(from, who)
		}
		flooder.floods(outside.Addresses[0], flood)
		for _, who := range from {
			_, err := server.WriteTo([]byte("!"), who)
			must(t, err)
		}
		deadline := time.Now().Add(wait)
		for _, c := range asking {
			must(t, c.SetReadDeadline(deadline))
			if _, err := c.Read(make([]byte, 16)); err == nil {
				n++
			}
		}
		return n
	}
	if n := answered(lab.Patience); n != questions {
		t.Errorf("%d of %d questions are answered", n, questions)
	}
	atomic.StoreUint32(&d.shared.Settings.OpeningShare, math.MaxUint32)
	if n := answered(lab.AnswerTime); n == questions {
		t.Error("all questions are answered without shares too: the flood is too small")
	}
}

// listens opens a UDP socket of a VM.
func (m *vm) listens(port int) (c net.PacketConn) {
	m.h.Helper()
	must(m.h, m.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	}))
	m.h.Cleanup(func() { c.Close() })
	return c
}

// floods opens a connection to each of n ports.
func (m *vm) floods(to netip.Addr, n int) {
	m.h.Helper()
	c := m.listens(0)
	defer c.Close()
	for port := range n {
		_, err := c.WriteTo([]byte("x"), &net.UDPAddr{IP: to.AsSlice(), Port: 10_000 + port})
		must(m.h, err)
	}
}

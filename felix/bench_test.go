package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/internal/lab"
)

// Compares the agent on a host that has only its own routes with the agent on a router with a full table: the time of a
// start, the wait of a new interface, the processor time of an event, and the resident memory.
func BenchmarkForeignRoutes(b *testing.B) {
	for _, foreign := range []int{0, 300_000} {
		b.Run(fmt.Sprintf("foreign=%d", foreign), func(b *testing.B) {
			for b.Loop() {
				measureForeignRoutes(b, foreign)
			}
		})
	}
}

func measureForeignRoutes(b *testing.B, foreign int) {
	const newcomers, events = 20, 200
	l := newSite(b)
	l.startEtcd()
	l.vm("vm0", "10.65.0.1")
	manifest := openProfile + workload("vm0", "cali-vm0", "10.65.0.1")
	for i := range newcomers {
		manifest += workload(fmt.Sprint("new", i), fmt.Sprint("cali-new", i), fmt.Sprintf("10.65.1.%d", i))
	}
	l.apply(manifest)
	l.host.Must(func() error { return addForeignRoutes("eth0", foreign) })

	began := time.Now()
	f := l.start()
	f.await(allEnforced(1))
	b.ReportMetric(time.Since(began).Seconds()*1000, "start-ms")

	var seen time.Duration
	for i := range newcomers {
		name := fmt.Sprint("cali-new", i)
		lab.Cable(l.host, name, l.client, name)
		began := time.Now()
		l.host.Up(name)
		f.await(allEnforced(2 + i))
		seen += time.Since(began)
	}
	b.ReportMetric(float64(seen.Milliseconds())/newcomers, "interface-ms")

	before := f.processorTime()
	l.host.Must(func() error { return flap("lo", events) })
	f.await(allEnforced(1 + newcomers))
	b.ReportMetric(float64((f.processorTime()-before).Microseconds())/events, "event-cpu-us")
	b.ReportMetric(float64(f.resident())/(1<<20), "resident-MB")
	b.ReportMetric(0, "ns/op")
	f.kill()
}

// allEnforced waits until policy is in force on n interfaces, with their routes.
func allEnforced(n int) func(*agentv1.StatusResponse) error {
	return func(s *agentv1.StatusResponse) error {
		enforced := 0
		for _, i := range s.Interfaces {
			if i.State == "enforced" {
				enforced++
			}
		}
		if enforced != n {
			return fmt.Errorf("%d interfaces are enforced, want %d", enforced, n)
		}
		return nil
	}
}

func addForeignRoutes(dev string, n int) error {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer handle.Close()
	for i := range n {
		to := net.IPNet{IP: binary.BigEndian.AppendUint32(nil, 20<<24+uint32(i)<<4), Mask: net.CIDRMask(28, 32)}
		route := netlink.Route{Dst: &to, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_BGP}
		if err := handle.RouteAdd(&route); err != nil {
			return err
		}
	}
	return nil
}

// flap makes events of an interface: it changes the length of the transmit queue repeatedly.
func flap(dev string, events int) error {
	link, err := netlink.LinkByName(dev)
	for i := 0; i < events && err == nil; i++ {
		err = netlink.LinkSetTxQLen(link, 1000+i%2)
		lab.LetPass(5 * time.Millisecond) // so that each is an event of its own
	}
	return err
}

// processorTime returns the processor time that felix and its BGP process have used so far.
func (f *felix) processorTime() (sum time.Duration) {
	f.Helper()
	for _, pid := range append(f.children(), f.process.Process.Pid) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		must(f, err)
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, field := range fields[11:13] { // utime and stime, proc_pid_stat(5)
			n, err := strconv.ParseInt(field, 10, 64)
			must(f, err)
			sum += time.Duration(n) * time.Second / 100 // USER_HZ
		}
	}
	return sum
}

// resident returns the resident memory of felix and its BGP process in bytes. Pages that both have count once.
func (f *felix) resident() (bytes int64) {
	f.Helper()
	for _, pid := range append(f.children(), f.process.Process.Pid) {
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		must(f, err)
		_, after, _ := strings.Cut(string(rollup), "\nPss:")
		kB, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
		must(f, err)
		bytes += kB << 10
	}
	return bytes
}

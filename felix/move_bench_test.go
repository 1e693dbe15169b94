package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/margay-project/margay/internal/lab"
)

// Measures how long a VM's address is without traffic after the write in etcd that moves it: the VM runs on the new host, its endpoint
// there waits, and the endpoint on the former host is deleted. A VM on the former host sends to the address every millisecond.
func BenchmarkMove(b *testing.B) {
	b.Run("without BGP", func(b *testing.B) {
		for b.Loop() {
			one, two, f1, f2 := newSwitch(b)
			measureMoves(b, one, two, f1, f2)
		}
	})
	b.Run("mesh", func(b *testing.B) {
		for b.Loop() {
			one, two := newRack(b)
			f1, f2 := one.start("FELIX_IP=198.51.100.1/24"), two.start("FELIX_IP=198.51.100.2/24")
			f1.await(established)
			measureMoves(b, one, two, f1, f2)
		}
	})
}

func measureMoves(b *testing.B, one, two *site, f1, f2 *felix) {
	const moves = 10
	sender := one.plug("s", "10.65.0.2")
	f1.awaitEnforced("cali-s")
	var pauses []time.Duration
	for i := range moves {
		old, moved, address := fmt.Sprintf("o%d", i), fmt.Sprintf("m%d", i), fmt.Sprintf("10.65.0.%d", 10+i)
		former := one.plug(old, address)
		f1.awaitEnforced("cali-" + old)
		stream := sender.Stream(netip.MustParseAddr(address), port, time.Millisecond)
		vm := two.vm(moved, address)
		vm.Echo(port)
		one.age("shop", "host1-libvirt-"+old+"-eth0")
		two.place(moved, address)
		f2.awaitProblem("WorkloadEndpoint(shop/host2-libvirt-"+moved+"-eth0)", "traffic goes there")
		f2.awaitEnforced("cali-" + moved)
		former.Unplug()
		written := time.Now()
		one.delete("WorkloadEndpoint", "shop", "host1-libvirt-"+old+"-eth0")
		lab.Until(b, "answers from the other host", func() bool { return stream.Unanswered() == 0 })
		sent := stream.End()
		at := slices.IndexFunc(sent, func(d lab.Datagram) bool { return d.Answered && d.Sent.After(written) })
		pauses = append(pauses, sent[at].Sent.Sub(written))
	}
	slices.Sort(pauses)
	b.ReportMetric(float64(pauses[moves/2].Microseconds())/1000, "median-ms")
	b.ReportMetric(float64(pauses[moves-1].Microseconds())/1000, "max-ms")
	b.ReportMetric(0, "ns/op")
	f1.kill()
	f2.kill()
}

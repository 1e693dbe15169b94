package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// Compares the agent with BIRD: a router announces routes to single addresses, and they go into the kernel. The time is from the
// announcement to the last route, and the memory is resident afterwards.
func BenchmarkLearnedRoutes(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		for _, hops := range []int{1, 2} {
			b.Run(fmt.Sprintf("felix/routes=%d/hops=%d", n, hops), func(b *testing.B) {
				for b.Loop() {
					measureLearnedByFelix(b, n, hops)
				}
			})
		}
		b.Run(fmt.Sprintf("BIRD/routes=%d", n), func(b *testing.B) {
			for b.Loop() {
				measureLearnedByBIRD(b, n)
			}
		})
	}
}

// announcer is a router that announces n routes to its neighbour once its protocol "many" is enabled.
func announcer(b *testing.B, on *lab.Host, n int, own, neighbour string) *router.BIRD {
	var many strings.Builder
	for i := range n {
		fmt.Fprintf(&many, "route 100.%d.%d.%d/32 blackhole;\n", 64+i>>16, i>>8&255, i&255)
	}
	return router.StartBIRD(b, on, b.TempDir(), fmt.Sprintf(`
router id %[1]s;
protocol device { }
protocol static many { disabled; ipv4; %[3]s }
protocol bgp session { local %[1]s as 65001; neighbor %[2]s as 64512; ipv4 { import all; export where source = RTS_STATIC; }; }
`, own, neighbour, many.String()))
}

// measureLearnedByFelix measures the agent with one or two routers that announce the same routes.
func measureLearnedByFelix(b *testing.B, n, hops int) {
	l := newSite(b)
	l.startEtcd()
	birds := []*router.BIRD{announcer(b, l.client, n, clientAddress, hostAddress)}
	l.apply(routerPeer(clientAddress))
	if hops == 2 {
		second := lab.NewHost(b)
		lab.Cable(l.host, "eth1", second, "eth0")
		l.host.Up("eth1", "198.51.100.10/24")
		second.Up("eth0", "198.51.100.1/24")
		birds = append(birds, announcer(b, second, n, "198.51.100.1", "198.51.100.10"))
		l.apply(routerPeer("198.51.100.1"))
	}
	f := l.startSynced("FELIX_IP=" + hostAddress + "/24")
	f.await(sessions(hops))
	before := f.resident()
	began := time.Now()
	for _, bird := range birds {
		enable(b, bird)
	}
	cpu := f.processorTime()
	l.awaitRoutes(n, routes.LearnedProtocol, hops)
	b.ReportMetric((f.processorTime() - cpu).Seconds(), "cpu-s")
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "all-ms")
	b.ReportMetric(float64(f.resident())/(1<<20), "resident-MB")
	b.ReportMetric(float64(f.resident()-before)/(1<<20), "more-MB")
	b.ReportMetric(0, "ns/op")
	f.kill()
}

func routerPeer(address string) string {
	return fmt.Sprintf(`
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: router-%s}
spec: {peerIP: %s, asNumber: 65001, sourceAddress: None}
`, strings.ReplaceAll(address, ".", "-"), address)
}

func measureLearnedByBIRD(b *testing.B, n int) {
	const birdProtocol = 12
	l := newSite(b)
	bird := announcer(b, l.client, n, clientAddress, hostAddress)
	router.StartBIRD(b, l.host, b.TempDir(), fmt.Sprintf(`
router id %[1]s;
protocol device { }
protocol kernel { ipv4 { import none; export all; }; }
protocol bgp session { local %[1]s as 64512; neighbor %[2]s as 65001; ipv4 { import all; export none; }; }
`, hostAddress, clientAddress))
	lab.Await(b, func() error {
		text, err := bird.Ask("show protocols session")
		if err == nil && !strings.Contains(text, "Established") {
			err = fmt.Errorf("%s", text)
		}
		return err
	})
	began := time.Now()
	enable(b, bird)
	l.awaitRoutes(n, birdProtocol, 1)
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "all-ms")
	b.ReportMetric(0, "ns/op")
}

func enable(b *testing.B, bird *router.BIRD) {
	b.Helper()
	if _, err := bird.Ask("enable many"); err != nil {
		b.Fatal(err)
	}
}

// awaitRoutes waits until the host has n IPv4 routes of a protocol with so many next hops. To list all of them takes much processor time,
// which would be missing elsewhere, so they are listed when the table is large enough.
func (l *site) awaitRoutes(n int, protocol netlink.RouteProtocol, hops int) {
	l.Helper()
	lab.Await(l, func() error {
		if all := l.mainPrefixes(); all < n {
			return fmt.Errorf("%d routes are in the kernel", all)
		}
		if got := l.countRoutes(protocol, hops); got != n {
			return fmt.Errorf("%d routes with %d next hops are in the kernel", got, hops)
		}
		return nil
	})
}

// mainPrefixes returns the number of IPv4 prefixes in the host's main table.
func (l *site) mainPrefixes() (n int) {
	l.Helper()
	l.host.Must(func() error {
		stat, err := os.ReadFile("/proc/thread-self/net/fib_triestat")
		if err != nil {
			return err
		}
		_, main, _ := strings.Cut(string(stat), "Main:")
		_, prefixes, _ := strings.Cut(main, "Prefixes:")
		_, err = fmt.Sscan(prefixes, &n)
		return err
	})
	return n
}

// countRoutes counts the host's IPv4 routes of a protocol with so many next hops.
func (l *site) countRoutes(protocol netlink.RouteProtocol, hops int) (n int) {
	l.Helper()
	l.host.Must(func() error {
		return netlink.RouteListFilteredIter(netlink.FAMILY_V4, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL,
			func(r netlink.Route) bool {
				if max(len(r.MultiPath), 1) == hops {
					n++
				}
				return true
			})
	})
	return n
}

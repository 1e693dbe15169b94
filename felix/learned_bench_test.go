package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// Compares the agent with BIRD: a router announces routes to single addresses, and they go into the kernel. The time is from the
// announcement to the last route, and the memory is resident afterwards.
func BenchmarkLearnedRoutes(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("felix/routes=%d", n), func(b *testing.B) {
			for b.Loop() {
				measureLearnedByFelix(b, n)
			}
		})
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

func measureLearnedByFelix(b *testing.B, n int) {
	l := newSite(b)
	l.startEtcd()
	l.apply(`
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: router}
spec: {peerIP: ` + clientAddress + `, asNumber: 65001}
`)
	bird := announcer(b, l.client, n, clientAddress, hostAddress)
	f := l.startSynced("FELIX_IP=" + hostAddress + "/24")
	f.await(func(s *agentv1.StatusResponse) error {
		if len(s.Peers) != 1 || s.Peers[0].State != "established" {
			return fmt.Errorf("peers %v", s.Peers)
		}
		return nil
	})
	before := f.resident()
	began := time.Now()
	enable(b, bird)
	f.await(func(s *agentv1.StatusResponse) error {
		for _, t := range s.Tables {
			if t.Name == "learned routes" && int(t.Programmed) == n {
				return nil
			}
		}
		return fmt.Errorf("tables %v", s.Tables)
	})
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "all-ms")
	b.ReportMetric(float64(f.resident())/(1<<20), "resident-MB")
	b.ReportMetric(float64(f.resident()-before)/(1<<20), "more-MB")
	b.ReportMetric(0, "ns/op")
	if got := l.countRoutes(routes.LearnedProtocol); got != n {
		b.Errorf("%d routes are in the kernel", got)
	}
	f.kill()
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
	lab.Await(b, func() error {
		if got := l.countRoutes(birdProtocol); got != n {
			return fmt.Errorf("%d routes are in the kernel", got)
		}
		return nil
	})
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "all-ms")
	b.ReportMetric(0, "ns/op")
}

func enable(b *testing.B, bird *router.BIRD) {
	b.Helper()
	if _, err := bird.Ask("enable many"); err != nil {
		b.Fatal(err)
	}
}

// countRoutes counts the host's IPv4 routes of a protocol.
func (l *site) countRoutes(protocol netlink.RouteProtocol) (n int) {
	l.Helper()
	l.host.Must(func() error {
		return netlink.RouteListFilteredIter(netlink.FAMILY_V4, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL,
			func(netlink.Route) bool { n++; return true })
	})
	return n
}

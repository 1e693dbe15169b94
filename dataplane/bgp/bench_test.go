package bgp_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// Compares the speaker with BIRD: each announces routes to single addresses to a router that runs BIRD, over a session that is up. The
// time is until the router has them all.
func BenchmarkAnnounce(b *testing.B) {
	const n = 10_000
	receiver := fmt.Sprintf(`
router id %[1]s;
protocol device { }
protocol bgp session4 {
	local %[1]s as %[2]d; neighbor %[3]s as %[4]d; connect delay time 1;
	ipv4 { import all; export none; };
}
`, router4, routerAS, host4, hostAS)
	b.Run("felix", func(b *testing.B) {
		for b.Loop() {
			l := newPair(b)
			r := router.StartBIRD(b, l.router, b.TempDir(), receiver)
			s := run(b, l.host, "speaker")
			want := node(routerAS)
			want.Peers = map[string]calc.Peer{"v4": want.Peers["v4"]}
			want.Paths = map[netip.Prefix]calc.Path{prefix(block4): {Reason: "block"}}
			s.apply(b, want)
			s.waitUp(b)
			r.AwaitRoute(block4)
			for i := range n {
				want.Paths[singleAddress(i)] = calc.Path{Reason: "borrowed"}
			}
			began := time.Now()
			s.apply(b, want)
			awaitCount(b, r, n+1)
			b.ReportMetric(float64(time.Since(began).Milliseconds()), "all-ms")
			b.ReportMetric(0, "ns/op")
			s.Kill()
		}
	})
	b.Run("BIRD", func(b *testing.B) {
		var many strings.Builder
		for i := range n {
			fmt.Fprintf(&many, "route %v blackhole;\n", singleAddress(i))
		}
		for b.Loop() {
			l := newPair(b)
			r := router.StartBIRD(b, l.router, b.TempDir(), receiver)
			s := router.StartBIRD(b, l.host, b.TempDir(), fmt.Sprintf(`
router id %[1]s;
protocol device { }
protocol static one { ipv4; route %[5]s blackhole; }
protocol static many { disabled; ipv4; %[6]s }
protocol bgp session { local %[1]s as %[2]d; neighbor %[3]s as %[4]d; ipv4 { import none; export where source = RTS_STATIC; }; }
`, host4, hostAS, router4, routerAS, block4, many.String()))
			r.AwaitRoute(block4)
			began := time.Now()
			if _, err := s.Ask("enable many"); err != nil {
				b.Fatal(err)
			}
			awaitCount(b, r, n+1)
			b.ReportMetric(float64(time.Since(began).Milliseconds()), "all-ms")
			b.ReportMetric(0, "ns/op")
		}
	})
}

// singleAddress is the i-th route that the benchmark announces.
func singleAddress(i int) netip.Prefix {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 100<<24|64<<16+uint32(i))
	return netip.PrefixFrom(netip.AddrFrom4(a), 32)
}

// awaitCount waits until a router has so many routes.
func awaitCount(b *testing.B, r *router.BIRD, n int) {
	b.Helper()
	lab.Await(b, func() error {
		out, err := r.Ask("show route count")
		if err == nil && !strings.Contains(out, fmt.Sprintf("%d of %[1]d routes", n)) {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}

// A router whose routes have nothing in common sends each of them in a message of its own. The time for a route must not grow with the
// number of routes.
func BenchmarkReceiveOneByOne(b *testing.B) {
	for _, n := range []int{20_000, 80_000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			for b.Loop() {
				l := newPair(b)
				s := run(b, l.host, "speaker")
				s.apply(b, only4(func(p *calc.Peer) { p.Passive, p.MaxPrefixes = true, 1_000_000 }))
				began, got := time.Now(), 0
				l.router.Must(func() error {
					conn, err := openSession(addr(router4))
					if err != nil {
						return err
					}
					b.Cleanup(func() { conn.Close() })
					for i := range n {
						if _, err = conn.Write(update(nil, good(), []byte{32, 100, byte(i >> 16), byte(i >> 8), byte(i)})); err != nil {
							return err
						}
					}
					return nil
				})
				lab.Await(b, func() error {
					if got += len(s.ask(b, request{Learned: true}).Learned); got < n {
						return fmt.Errorf("%d of %d routes", got, n)
					}
					return nil
				})
				b.ReportMetric(float64(time.Since(began).Microseconds())/float64(n), "us/route")
				b.ReportMetric(0, "ns/op")
				s.Kill()
			}
		})
	}
}

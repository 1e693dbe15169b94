package routes_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/internal/lab"
)

// newHopRoutes puts the test on a host with an interface eth0 on the networks 192.0.2.0/24 and fd99::/64. It returns the interface's
// index.
func newHopRoutes(t testing.TB, protocol int) (*routes.HopRoutes, int) {
	h := lab.Enter(t)
	h.Veth("eth0", "peer")
	h.Up("peer")
	eth0 := h.Up("eth0", "192.0.2.2/24", "fd99::2/64")
	kernel, err := routes.NewHopRoutes(protocol, func(p int) bool { return p == protocol })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kernel.Close)
	return kernel, eth0.Attrs().Index
}

func through(index, metric int, gateways ...string) routes.HopRoute {
	var hops []routes.Hop
	for _, g := range gateways {
		hops = append(hops, routes.Hop{Gateway: netip.MustParseAddr(g), Interface: index})
	}
	return routes.Through(hops, metric)
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// A route that the kernel refuses, and one in whose place another program has one, do not stop the others of their batch.
func TestAFailedRouteOfABatchStopsNoOther(t *testing.T) {
	kernel, eth0 := newHopRoutes(t, 87)
	dst, _ := netlink.ParseIPNet("10.0.2.0/24")
	foreign := &netlink.Route{Dst: dst, Gw: netip.MustParseAddr("192.0.2.9").AsSlice(), Priority: 2048, Protocol: 4}
	if err := netlink.RouteAdd(foreign); err != nil {
		t.Fatal(err)
	}
	list := prefixes("10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24", "fd00:1::/64", "10.0.4.0/24", "fd00:2::/64")
	wanted := []routes.HopRoute{
		through(eth0, 2048, "192.0.2.1"), through(eth0, 2048, "192.0.2.1"), through(eth0, 2048, "203.0.113.1"), // no neighbour
		through(eth0, 2048, "fd99::1", "fd99::3"), through(eth0, 2048, "192.0.2.3", "192.0.2.1"), through(eth0, 2048, "fd98::1"),
	}
	var failed []int
	for i, err := range kernel.PutAll(list, wanted) {
		if err != nil {
			failed = append(failed, i)
		}
		if i == 1 && !errors.Is(err, routes.ErrConflict) || i == 2 && !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("%v: %v", list[i], err)
		}
	}
	if !slices.Equal(failed, []int{1, 2, 5}) {
		t.Errorf("failed: %v", failed)
	}
	held, err := kernel.List()
	if err != nil || len(held) != 3 || !held[list[0]].Equal(wanted[0]) || !held[list[3]].Equal(wanted[3]) || !held[list[4]].Equal(wanted[4]) {
		t.Errorf("%v: %v", err, held)
	}
	for i, err := range kernel.DeleteAll(append(list, netip.MustParsePrefix("10.9.0.0/16"))) {
		if err != nil {
			t.Errorf("delete %d: %v", i, err)
		}
	}
	if held, err := kernel.List(); err != nil || len(held) > 0 {
		t.Errorf("left: %v, %v", held, err)
	}
	if left, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: dst}, netlink.RT_FILTER_DST); err != nil || len(left) != 1 {
		t.Errorf("the other program's route: %v, %v", left, err)
	}
}

// A route moves to another metric without a moment in which there is none, also by another process.
func TestARouteChangesItsMetric(t *testing.T) {
	kernel, eth0 := newHopRoutes(t, 87)
	list := prefixes("10.0.1.0/24", "fd00:1::/64")
	put := func(k *routes.HopRoutes, metric int) {
		t.Helper()
		for _, err := range k.PutAll(list, []routes.HopRoute{through(eth0, metric, "192.0.2.1"), through(eth0, metric, "fd99::1", "fd99::3")}) {
			if err != nil {
				t.Error(err)
			}
		}
		held, err := k.List()
		if err != nil || held[list[0]].Metric != metric || held[list[1]].Metric != metric || len(held[list[1]].Hops) != 2 {
			t.Errorf("%v: %v", err, held)
		}
	}
	put(kernel, 2048)
	put(kernel, 1024)
	put(kernel, 3000)
	another, err := routes.NewHopRoutes(87, func(int) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	defer another.Close()
	if _, err := another.List(); err != nil {
		t.Fatal(err)
	}
	put(another, 500)
}

// Compares routes in batches with routes one by one: microseconds for each route.
func BenchmarkHopRoutes(b *testing.B) {
	const n = 100_000
	for _, batch := range []int{1, n} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			kernel, eth0 := newHopRoutes(b, 87)
			var list []netip.Prefix
			var wanted []routes.HopRoute
			for i := range n {
				list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(64 + i>>16), byte(i >> 8), byte(i)}), 32))
				wanted = append(wanted, through(eth0, 2048, "192.0.2.1"))
			}
			for b.Loop() {
				for at := 0; at < n; at += batch {
					for _, err := range kernel.PutAll(list[at:at+batch], wanted[at:at+batch]) {
						if err != nil {
							b.Fatal(err)
						}
					}
				}
				b.StopTimer()
				kernel.DeleteAll(list)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/n, "us/route")
		})
	}
}

package bgp

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// kernel has all learned routes but those that are missing, and reaches all next hops but those that are cut.
type kernel struct {
	missing map[netip.Prefix]bool
	cut     map[netip.Addr]bool
}

// state returns the missing prefixes, and the next hops that are not cut.
func (k kernel) state(hops []netip.Addr) (missing []netip.Prefix, reached []netip.Addr) {
	for _, next := range hops {
		if !k.cut[next] {
			reached = append(reached, next)
		}
	}
	return slices.Collect(maps.Keys(k.missing)), reached
}

// inUse is InUse, made by looking at every route.
func inUse(routes map[netip.Prefix][]Way, k kernel) map[netip.Addr]int {
	counts := map[netip.Addr]int{}
	for prefix, ways := range routes {
		if k.missing[prefix] {
			continue
		}
		of := map[netip.Addr]bool{}
		for _, w := range ways {
			if !k.cut[w.NextHop] {
				of[w.Neighbour] = true
			}
		}
		for a := range of {
			counts[a]++
		}
	}
	return counts
}

func TestInUseCountsWhatAnyHistoryOfRoutesLeavesInTheKernel(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	neighbours := []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2"), addr("192.0.2.3")}
	hops := append([]netip.Addr{addr("198.51.100.9")}, neighbours...)
	s := newSpeaker(quiet(), Options{}, newFake())
	routes, k := map[netip.Prefix][]Way{}, kernel{map[netip.Prefix]bool{}, map[netip.Addr]bool{}}
	for step := range 2000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(30))}), 32)
		var ways []Way
		for range random.IntN(4) {
			if w := (Way{neighbours[random.IntN(3)], hops[random.IntN(4)]}); !slices.Contains(ways, w) {
				ways = append(ways, w)
			}
		}
		slices.SortFunc(ways, compareWays)
		s.learned.put(map[netip.Prefix][]Way{p: ways})
		delete(routes, p)
		if len(ways) > 0 {
			routes[p] = ways
		}
		k.missing[p], k.cut[hops[random.IntN(4)]] = random.IntN(4) == 0, random.IntN(4) == 0
		maps.DeleteFunc(k.missing, func(_ netip.Prefix, missing bool) bool { return !missing })
		got := s.InUse(k.state(hops))
		maps.DeleteFunc(got, func(_ netip.Addr, n int) bool { return n == 0 })
		if want := inUse(routes, k); !maps.Equal(got, want) {
			t.Fatalf("seed %d, step %d: %v, want %v", seed, step, got, want)
		}
	}
	s.learned.withdrawAll()
	if got := s.InUse(kernel{}.state(hops)); len(got) != 0 || len(s.learned.origins.all) != 0 {
		t.Errorf("after all routes were withdrawn: %v, %d origins", got, len(s.learned.origins.all))
	}
}

// Prefixes share origins, so memory grows with the sets of routers and not with the routes.
func TestPrefixesFromTheSameRoutersShareAnOrigin(t *testing.T) {
	o := newOrigins()
	for i := range 256 {
		ways := []Way{{addr("192.0.2.1"), addr("192.0.2.1")}, {addr("192.0.2.2"), addr("192.0.2.2")}}
		o.set(prefix(fmt.Sprintf("10.0.%d.0/24", i)), ways[:1+i%2])
	}
	if len(o.all) != 2 || len(o.of) != 256 {
		t.Errorf("%d origins of %d prefixes", len(o.all), len(o.of))
	}
}

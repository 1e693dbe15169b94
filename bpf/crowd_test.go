package bpf

import (
	"math"
	"os"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/margay-project/margay/bpf/layout"
)

const plenty = math.MaxUint32 // a share that nobody uses up

// openRouter allows everything at two workloads and at the uplink, which is the host's.
func openRouter(t *testing.T) *router {
	r := newRouter(t)
	allow := r.allowAll()
	r.workload(r.v1, 5, allow, allow, alice, alice6)
	r.workload(r.v2, 6, allow, allow, carol, carol6)
	var mask [layout.Stages]uint32
	mask[layout.StageNormalIn], mask[layout.StageNormalOut], mask[layout.StageForwardIn], mask[layout.StageForwardOut] = allow, allow, allow, allow
	r.iface(layout.Iface{Endpoint: 7, Ifindex: r.up, Mask: mask})
	return r
}

// entries counts the entries of a table.
func entries(t testing.TB, m *ebpf.Map) (n int) {
	t.Helper()
	_, err := eachFlow(m, func(layout.FlowKey, layout.Flow) bool { n++; return true })
	must(t, err)
	return n
}

// A flood fills a table of 1,024 entries many times over. Others ask in the middle of it, and are answered afterwards.
func TestAFloodKeepsNewConnectionsOfOthers(t *testing.T) {
	const flood, questions = 8000, 20
	there := "172.16.0.2" // another address of this host
	for _, c := range []struct {
		name             string
		flood            func(r *router, port uint16)
		question, answer func(r *router, port uint16) Outcome
	}{
		{"one workload, and another",
			func(r *router, port uint16) { r.in(r.v1, udp(alice, bob, port, 9)) },
			func(r *router, port uint16) Outcome { return r.in(r.v2, udp(carol, bob, port, 53)) },
			func(r *router, port uint16) Outcome { return r.out(r.v2, udp(bob, carol, 53, port)) }},
		{"one workload, and this host",
			func(r *router, port uint16) { r.in(r.v1, udp(alice, bob, port, 9)) },
			func(r *router, port uint16) Outcome { return r.born(r.up, udp(here, bob, port, 53)) },
			func(r *router, port uint16) Outcome { return r.in(r.up, udp(bob, here, 53, port)) }},
		{"others to a workload, and the workload",
			func(r *router, port uint16) { r.out(r.v1, udp(bob, alice, port, 9)) },
			func(r *router, port uint16) Outcome { return r.in(r.v1, udp(alice, bob, port, 53)) },
			func(r *router, port uint16) Outcome { return r.out(r.v1, udp(bob, alice, 53, port)) }},
		{"others to this host, and the host",
			func(r *router, port uint16) { r.in(r.up, udp(bob, here, port, 9)) },
			func(r *router, port uint16) Outcome { return r.born(r.up, udp(here, bob, port, 53)) },
			func(r *router, port uint16) Outcome { return r.in(r.up, udp(bob, here, 53, port)) }},
		{"others to one address of this host, and to another",
			func(r *router, port uint16) { r.in(r.up, udp(bob, here, port, 9)) },
			func(r *router, port uint16) Outcome { return r.in(r.up, udp(bob, there, port, 53)) },
			func(r *router, port uint16) Outcome { return r.born(r.up, udp(there, bob, 53, port)) }},
	} {
		answered := func(share uint32) (n int) {
			r := openRouter(t)
			must(t, r.shared.Locals.Put(Address(addr(there)), 1))
			if share > 0 {
				r.shared.Settings.OpeningShare = share
			}
			for port := range uint16(flood) {
				if port == flood/2 { // the flooding opener has used up its share by now
					for port := range uint16(questions) {
						c.question(r, 1000+port)
					}
				}
				c.flood(r, 10_000+port)
			}
			for port := range uint16(questions) {
				if c.answer(r, 1000+port).Reason == PassFlow {
					n++
				}
			}
			return n
		}
		if n := answered(0); n != questions {
			t.Errorf("%s: %d of %d are still known after a flood", c.name, n, questions)
		}
		if n := answered(plenty); n != 0 {
			t.Errorf("%s: without shares %d are known: this is no flood", c.name, n)
		}
	}
}

// A connection beyond a share is like any other.
func TestAConnectionOfTheCrowd(t *testing.T) {
	r := openRouter(t)
	r.shared.Settings.OpeningShare = 0
	r.in(r.v1, udp(alice, bob, 8, 53))
	r.want(r.in(r.v1, tcp(alice, bob, 9, 80, "S", 1, 0)), PassPolicy)
	tables := r.shared.tables.current
	if a, b := entries(t, tables.new), entries(t, tables.crowd); a != 1 || b != 1 {
		t.Fatalf("%d and %d entries, want one each", a, b)
	}
	r.want(r.out(r.v1, tcp(bob, alice, 80, 9, "SA", 7, 2)), PassFlow)
	if n := len(r.connections()); n != 2 {
		t.Errorf("%d connections are listed, want 2", n)
	}
	r.want(r.in(r.v1, tcp(alice, bob, 9, 80, "A", 2, 8)), PassFlow)
	if a, b := entries(t, tables.proven), entries(t, tables.crowd); a != 1 || b != 0 {
		t.Errorf("once it is proven: %d proven, %d of the crowd", a, b)
	}
	r.in(r.v1, udp(alice, bob, 10, 53))
	r.forgetAll()
	if n := len(r.connections()); n != 0 || entries(t, tables.crowd) != 0 {
		t.Errorf("%d connections after all were deleted", n)
	}
}

// Programs look into the crowd's table while something may be in it, and only then.
func TestTheCrowdTableIsSearchedOnlyWhileItHasEntries(t *testing.T) {
	r := openRouter(t)
	crowding := func(when string, want uint32) {
		t.Helper()
		if got := uint32(r.shared.Settings.Crowding); got != want {
			t.Errorf("%s: %d, want %d", when, got, want)
		}
	}
	sweep := func() {
		t.Helper()
		_, err := r.Sweep()
		must(t, err)
	}
	crowding("nobody has looked yet", layout.Crowded)
	sweep()
	crowding("nobody is there", layout.CrowdNone)
	r.shared.Settings.OpeningShare = 0
	r.in(r.v1, udp(alice, bob, 8, 53))
	crowding("the first one is none", layout.CrowdNone)
	r.in(r.v1, udp(alice, bob, 9, 53))
	crowding("one is there", layout.Crowded)
	sweep()
	crowding("one is there still", layout.CrowdAging)
	r.want(r.out(r.v1, udp(bob, alice, 53, 9)), PassFlow)
	r.forgetAll()
	sweep()
	crowding("all are gone", layout.CrowdNone)
	r.shared.Settings.OpeningShare = 0
	r.in(r.v1, udp(alice, bob, 10, 53))
	crowding("another comes", layout.Crowded)
	r.want(r.out(r.v1, udp(bob, alice, 53, 10)), PassFlow)
}

// The table is divided among those who opened something lately.
func TestTheShareFollowsTheNumberOfOpeners(t *testing.T) {
	r := openRouter(t)
	sweep := func() uint32 {
		t.Helper()
		_, err := r.Sweep()
		must(t, err)
		return r.shared.Settings.OpeningShare
	}
	if got := sweep(); got != leastOpenings { // 1024 entries for 16 openers and two windows would be 32
		t.Errorf("the share is %d, want %d", got, leastOpenings)
	}
	r.shared.setOpeningShare(0)
	must(t, r.shared.ResizeFlows(SharedSizes{Flows: 1024, NewFlows: 64_000}))
	if got := sweep(); got != 64_000/2/fewestOpeners {
		t.Errorf("the share is %d, want %d", got, 64_000/2/fewestOpeners)
	}
	for ifindex := range uint32(100) {
		must(t, r.shared.maps["openings"].Put(uint64(1000+ifindex)<<8, layout.Opening{Window: ^uint32(0) >> 1, Count: 1}))
	}
	r.in(r.v1, udp(alice, bob, 8, 53))
	if got := sweep(); got != 64_000/2/101 {
		t.Errorf("the share is %d, want %d", got, 64_000/2/101)
	}
}

// Settings of another layout begin anew, and the crowd's table stays: its connections must be found.
func TestTheCrowdOutlivesTheSettings(t *testing.T) {
	r := &resizing{outbound(t)}
	r.shared.Settings.OpeningShare = 0
	r.in(r.v1, udp(alice, bob, 8, 53))
	r.in(r.v1, udp(alice, bob, 9, 53))
	if n := entries(t, r.shared.tables.current.crowd); n != 1 {
		t.Fatalf("%d entries", n)
	}
	must(t, os.Remove(r.shared.paths["config"]))
	shared, err := OpenShared(r.dir, DefaultSharedSizes())
	must(t, err)
	defer func() { must(t, shared.Close()) }()
	r.shared = shared
	r.reopen()
	r.answered(8, 9)
}

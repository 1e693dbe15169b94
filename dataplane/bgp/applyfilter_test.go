package bgp

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/calc"
)

// rejecting is the node whose IPv4 peer gets no path inside of the block.
func rejecting() calc.BGP {
	return with(func(n *calc.BGP) {
		setPeer(n, func(p *calc.Peer) {
			p.Filters = &calc.RouteFilters{Export: []calc.RouteRule{{Within: prefix("192.0.2.0/26"), Shortest: 26, Longest: 32}}}
		})
	})
}

// expectRejected compares the paths that filters keep from peers.
func expectRejected(t *testing.T, s *Speaker, want ...string) {
	t.Helper()
	var got []string
	for _, a := range s.Announced() {
		for _, w := range a.Rejected {
			got = append(got, fmt.Sprintf("%v %s: %s", a.Prefix, w.Peer, w.Why))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rejected (-want +got):\n%s", diff)
	}
}

func TestApplyOfFiltersChangesPoliciesAndMarksButNoSession(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	apply(t, s, f, node())

	// The policy still lets the peer have paths without a mark, so the server sees that it had the former path and withdraws it.
	calls, failed := apply(t, s, f, rejecting())
	expect(t, "calls for a filter", calls, `policy export; own peer [10.0.0.9] mark 1 : reject; own marked : unmark accept
		announce 192.0.2.0/26 64512:1 mark 1
		policy export; own peer [10.0.0.9] mark 1 : reject; own peer [10.0.0.9] : reject; own marked : unmark accept`)
	expect(t, "error", failed, "")
	f.states[addr("10.0.0.9")] = peerState{State: established, Takes4: true}
	if got := s.Status()[0].Announced; got != 0 {
		t.Errorf("the filtered peer has %d paths", got)
	}
	expectRejected(t, s, "192.0.2.0/26 tor: a BGPFilter of the BGPPeer rejects it")

	other := rejecting()
	setPeer(&other, func(p *calc.Peer) {
		p.Filters = &calc.RouteFilters{
			Import: []calc.RouteRule{{}},
			Export: []calc.RouteRule{{Interface: "none"}, {Accept: true, Changes: calc.RouteChanges{Communities: []string{"64512:1", "1:2"}, Prepend: []uint32{7}}}},
		}
	})
	calls, _ = apply(t, s, f, other)
	expect(t, "calls for other filters", calls, `policy export; own peer [10.0.0.9] mark 1 : reject; own peer [10.0.0.9] mark 2 : add [1:2] prepend [64512 7] unmark accept; own peer [10.0.0.9] : reject; own marked : unmark accept
		policy import; peer [10.0.0.9] : reject
		refresh 10.0.0.9
		announce 192.0.2.0/26 64512:1 mark 2
		policy export; own peer [10.0.0.9] mark 2 : add [1:2] prepend [64512 7] unmark accept; own peer [10.0.0.9] : reject; own marked : unmark accept`)
	if got := s.Status()[0].Announced; got != 1 {
		t.Errorf("the peer has %d paths", got)
	}
	expectRejected(t, s)
	calls, _ = apply(t, s, f, other)
	expect(t, "calls when repeated", calls, "")

	calls, _ = apply(t, s, f, node())
	expect(t, "calls without filters", calls, `policy export; own peer [10.0.0.9] mark 2 : add [1:2] prepend [64512 7] unmark accept; own marked : unmark accept
		policy import
		refresh 10.0.0.9
		announce 192.0.2.0/26 64512:1
		policy export`)
}

// A filter that sets a priority must not make a draining node a good choice again.
func TestAFilterDoesNotUndoADrain(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	draining := with(func(n *calc.BGP) {
		n.Paths = map[netip.Prefix]calc.Path{prefix("192.0.2.0/26"): {Communities: []string{"65535:0"}}, prefix("192.0.2.64/26"): {}}
		setPeer(n, func(p *calc.Peer) {
			p.Filters = &calc.RouteFilters{Export: []calc.RouteRule{{Accept: true, Changes: calc.RouteChanges{Priority: 100}}}}
		})
	})
	apply(t, s, f, draining)
	priorities := map[netip.Prefix]int{}
	for p, mark := range s.marks {
		for _, o := range s.exports.known[mark] {
			priorities[p] = o.changes.Priority
		}
	}
	if want := map[netip.Prefix]int{prefix("192.0.2.0/26"): 0, prefix("192.0.2.64/26"): 100}; !maps.Equal(priorities, want) {
		t.Errorf("priorities %v, want %v", priorities, want)
	}
}

func TestAPathThatCannotBeMarkedReachesNoFilteredPeer(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	f.fail = []string{"announce 192.0.2.0/26"}
	calls, failed := apply(t, s, f, rejecting())
	if strings.Contains(calls, "add peer 10.0.0.9") || !strings.Contains(calls, "add peer fd00::9") || !strings.Contains(failed, "BGP peer tor: its filters are not in force yet") {
		t.Errorf("calls:\n%s\nerror: %s", calls, failed)
	}
	if got := s.Status()[0]; got.State != "Failed" || !strings.Contains(got.LastError, "not in force") {
		t.Errorf("status: %+v", got)
	}
	f.fail = nil
	calls, failed = apply(t, s, f, rejecting())
	if !strings.Contains(calls, "add peer 10.0.0.9") || failed != "" {
		t.Errorf("calls:\n%s\nerror: %s", calls, failed)
	}
}

// The withdrawal would be lost if the policy did not wait for the path.
func TestAFailedMarkOfARunningSessionIsTriedAgainUnderTheSamePolicy(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	apply(t, s, f, node())
	f.fail = []string{"announce 192.0.2.0/26"}
	first := "policy export; own peer [10.0.0.9] mark 1 : reject; own marked : unmark accept\n"
	calls, _ := apply(t, s, f, rejecting())
	expect(t, "calls", calls, first+"announce 192.0.2.0/26 64512:1 mark 1 FAILS")
	f.fail = nil
	calls, failed := apply(t, s, f, rejecting())
	expect(t, "calls of the second attempt", calls, "announce 192.0.2.0/26 64512:1 mark 1\n"+strings.Replace(strings.TrimSpace(first), "; own marked", "; own peer [10.0.0.9] : reject; own marked", 1))
	expect(t, "error", failed, "")
}

func TestPoliciesThatCannotBeSetAreTriedAgain(t *testing.T) {
	for _, step := range []string{"policy import", "policy export", "refresh"} {
		f := newFake()
		s := newSpeaker(quiet(), Options{}, f)
		apply(t, s, f, node())
		f.fail = []string{step}
		want := rejecting()
		setPeer(&want, func(p *calc.Peer) { p.Filters.Import = []calc.RouteRule{{}} })
		calls, failed := apply(t, s, f, want)
		if failed == "" || strings.Contains(calls, "peer 10.0.0.9 AS") {
			t.Errorf("%s: calls:\n%s\nerror: %s", step, calls, failed)
		}
		f.fail = nil
		calls, failed = apply(t, s, f, want)
		if !strings.Contains(calls, step) || failed != "" {
			t.Errorf("%s: calls of the second attempt:\n%s\nerror: %s", step, calls, failed)
		}
		if calls, _ = apply(t, s, f, want); calls != "" {
			t.Errorf("%s: calls when repeated:\n%s", step, calls)
		}
	}
}

func TestAPeerThatGoesKeepsItsFiltersUntilItsSessionHasEnded(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	apply(t, s, f, rejecting())
	f.fail = []string{"delete peer"}
	gone := with(func(n *calc.BGP) { delete(n.Peers, "Global_10_0_0_9") })
	calls, _ := apply(t, s, f, gone)
	expect(t, "calls", calls, "delete peer 10.0.0.9 FAILS")
	f.fail = nil
	calls, _ = apply(t, s, f, gone)
	expect(t, "calls of the second attempt", calls, "delete peer 10.0.0.9")
	calls, _ = apply(t, s, f, gone)
	expect(t, "calls afterwards", calls, "policy export; own peer [10.0.0.9] mark 1 : reject; own marked : unmark accept\nannounce 192.0.2.0/26 64512:1\npolicy export")
}

func TestApplyOfAReflectorIsTheSameWhenRepeated(t *testing.T) {
	reflecting := with(func(n *calc.BGP) {
		n.ClusterID, n.Transit = addr("1.0.0.1"), []calc.RouteRule{{Within: prefix("192.0.2.0/24"), Shortest: 24, Longest: 32, Accept: true}}
		setPeer(n, func(p *calc.Peer) { p.NextHop = "Self" })
	})
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	calls, _ := apply(t, s, f, reflecting)
	expect(t, "calls", calls, `start AS 64512 id 10.0.0.1 port 179
		policy export; peer [10.0.0.9] mark 1 : next hop Self; 192.0.2.0/24 24-32 mark 1 : unmark accept; mark 1 : reject
		policy import; : set mark 1
		announce 192.0.2.0/26 64512:1
		announce 2001:db8::40/122
		add peer 10.0.0.9 AS 65000
		add peer fd00::9 AS 65000`)
	calls, _ = apply(t, s, f, reflecting)
	expect(t, "calls when repeated", calls, "")

	other := reflecting
	other.Transit = nil
	calls, _ = apply(t, s, f, other)
	expect(t, "calls without pools", calls, `policy export; peer [10.0.0.9] mark 1 : next hop Self; 192.0.2.0/24 24-32 mark 1 : unmark accept; mark 1 : reject; peer [10.0.0.9] mark 2 : next hop Self; mark 2 : reject
		policy import; : set mark 2
		refresh 10.0.0.9
		refresh fd00::9
		policy export; peer [10.0.0.9] mark 2 : next hop Self; mark 2 : reject`)

	f.fail = []string{"refresh fd00::9"}
	calls, failed := apply(t, s, f, reflecting)
	if strings.Count(calls, "policy export") != 1 || !strings.Contains(failed, "filter the routes of BGP peer tor6 again") {
		t.Errorf("the former rules were dropped although not all routes have the new mark:\n%s\nerror: %s", calls, failed)
	}
	f.fail = nil
	calls, _ = apply(t, s, f, reflecting)
	expect(t, "calls of the second attempt", calls, `refresh fd00::9
		policy export; peer [10.0.0.9] mark 3 : next hop Self; 192.0.2.0/24 24-32 mark 3 : unmark accept; mark 3 : reject`)
}

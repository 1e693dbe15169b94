package bgp

import (
	"io"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
)

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// node is a node with two peers, one for each family, and a block of each.
func node() calc.BGP {
	return calc.BGP{
		AS:       64512,
		RouterID: addr("10.0.0.1"),
		Peers: map[string]calc.Peer{
			"Global_10_0_0_9": {Object: "tor", Address: addr("10.0.0.9"), AS: 65000},
			"Global_fd00__9":  {Object: "tor6", Address: addr("fd00::9"), AS: 65000},
		},
		Paths: map[netip.Prefix]calc.Path{
			prefix("192.0.2.0/26"):     {Communities: []string{"64512:1"}, Reason: "block"},
			prefix("2001:db8::40/122"): {Reason: "block"},
		},
	}
}

// with returns a changed copy of the node, with maps of its own.
func with(change func(*calc.BGP)) calc.BGP {
	n := node()
	n.Peers, n.Paths = maps.Clone(n.Peers), maps.Clone(n.Paths)
	change(&n)
	return n
}

// apply returns the calls that one Apply makes, and its error as text.
func apply(t *testing.T, s *Speaker, f *fakeServer, want calc.BGP) (calls, failed string) {
	t.Helper()
	if err := s.Apply(want); err != nil {
		failed = err.Error()
	}
	return f.take(), failed
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimSpace(strings.ReplaceAll(want, "\t", "")), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

const started = `start AS 64512 id 10.0.0.1 port 179
	policy export
	policy import
	announce 192.0.2.0/26 64512:1
	announce 2001:db8::40/122
	add peer 10.0.0.9 AS 65000
	add peer fd00::9 AS 65000`

func TestApplyAddsPolicyThenPathsThenPeers(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	calls, failed := apply(t, s, f, node())
	expect(t, "calls", calls, started)
	expect(t, "error", failed, "")
	calls, _ = apply(t, s, f, node())
	expect(t, "calls when nothing has changed", calls, "")
}

func TestApplyDoesNothingWithoutPeers(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	calls, failed := apply(t, s, f, with(func(n *calc.BGP) { clear(n.Peers) }))
	expect(t, "calls", calls+failed, "")
}

func TestApplyMakesOnlyTheNecessaryChanges(t *testing.T) {
	tests := map[string]struct {
		change func(*calc.BGP)
		calls  string
	}{
		"a path comes":           {func(n *calc.BGP) { n.Paths[prefix("192.0.2.77/32")] = calc.Path{} }, "announce 192.0.2.77/32"},
		"a path goes":            {func(n *calc.BGP) { delete(n.Paths, prefix("192.0.2.0/26")) }, "withdraw 192.0.2.0/26"},
		"communities change":     {func(n *calc.BGP) { n.Paths[prefix("2001:db8::40/122")] = calc.Path{Communities: []string{"1:2"}} }, "announce 2001:db8::40/122 1:2"},
		"a reason changes":       {func(n *calc.BGP) { n.Paths[prefix("2001:db8::40/122")] = calc.Path{Reason: "borrowed"} }, ""},
		"a peer goes":            {func(n *calc.BGP) { delete(n.Peers, "Global_10_0_0_9") }, "delete peer 10.0.0.9"},
		"a peer's object's name": {func(n *calc.BGP) { setPeer(n, func(p *calc.Peer) { p.Object = "leaf" }) }, ""},
		"a peer's AS":            {func(n *calc.BGP) { setPeer(n, func(p *calc.Peer) { p.AS = 65001 }) }, "delete peer 10.0.0.9\nadd peer 10.0.0.9 AS 65001"},
		"a peer's timers":        {func(n *calc.BGP) { setPeer(n, func(p *calc.Peer) { p.Keepalive = time.Minute }) }, "delete peer 10.0.0.9\nadd peer 10.0.0.9 AS 65000"},
		"the default written out": {func(n *calc.BGP) {
			setPeer(n, func(p *calc.Peer) { p.RestartTime, p.Port = 2*time.Minute, 179 })
		}, ""},
		"a peer is renamed": {func(n *calc.BGP) {
			n.Peers["Node_10_0_0_9"] = n.Peers["Global_10_0_0_9"]
			delete(n.Peers, "Global_10_0_0_9")
		}, "delete peer 10.0.0.9\nadd peer 10.0.0.9 AS 65000"},
		"everything at once": {func(n *calc.BGP) {
			clear(n.Paths)
			n.Paths[prefix("198.51.100.0/26")] = calc.Path{}
			delete(n.Peers, "Global_10_0_0_9")
			n.Peers["Global_10_0_0_8"] = calc.Peer{Address: addr("10.0.0.8"), AS: 65000}
		}, "announce 198.51.100.0/26\ndelete peer 10.0.0.9\nwithdraw 192.0.2.0/26\nwithdraw 2001:db8::40/122\nadd peer 10.0.0.8 AS 65000"},
		"the AS": {func(n *calc.BGP) { n.AS = 64513 }, "stop\n" + strings.Replace(started, "64512 id", "64513 id", 1)},
		"the listen port": {func(n *calc.BGP) { n.ListenPort = 1790 },
			"stop\n" + strings.Replace(started, "port 179", "port 1790", 1)},
		"the last peer goes": {func(n *calc.BGP) { clear(n.Peers) }, "stop"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			s := newSpeaker(quiet(), Options{}, f)
			apply(t, s, f, node())
			calls, failed := apply(t, s, f, with(test.change))
			expect(t, "calls", calls, test.calls)
			expect(t, "error", failed, "")
			calls, _ = apply(t, s, f, with(test.change))
			expect(t, "calls when repeated", calls, "")
		})
	}
}

func setPeer(n *calc.BGP, change func(*calc.Peer)) {
	p := n.Peers["Global_10_0_0_9"]
	change(&p)
	n.Peers["Global_10_0_0_9"] = p
}

func TestFailedEntriesAreRetriedAndBlockNoOthers(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	f.fail = []string{"announce 192.0.2.0/26", "add peer 10.0.0.9"}
	calls, failed := apply(t, s, f, node())
	expect(t, "calls", calls, `start AS 64512 id 10.0.0.1 port 179
	policy export
	policy import
	announce 192.0.2.0/26 64512:1 FAILS
	announce 2001:db8::40/122
	add peer 10.0.0.9 AS 65000 FAILS
	add peer fd00::9 AS 65000`)
	expect(t, "error", failed, "announce 192.0.2.0/26: told to fail\nBGP peer tor: told to fail")
	if got := s.Status()[0]; got.State != "Failed" || got.LastError != "told to fail" {
		t.Errorf("status of the failed peer: %+v", got)
	}

	f.fail = nil
	calls, failed = apply(t, s, f, node())
	expect(t, "calls of the retry", calls, "announce 192.0.2.0/26 64512:1\nadd peer 10.0.0.9 AS 65000")
	expect(t, "error of the retry", failed, "")

	f.fail = []string{"withdraw", "delete peer"}
	gone := with(func(n *calc.BGP) { clear(n.Paths); delete(n.Peers, "Global_fd00__9") })
	apply(t, s, f, gone)
	f.fail = nil
	calls, _ = apply(t, s, f, gone)
	expect(t, "calls of the second retry", calls, "delete peer fd00::9\nwithdraw 192.0.2.0/26\nwithdraw 2001:db8::40/122")
}

// The server's policies know addresses without interfaces, so filters of one peer would let routes of another through.
func TestPeersWithOneLinkLocalAddressNeedTheSameFilters(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	two := with(func(n *calc.BGP) {
		n.Peers = map[string]calc.Peer{
			"a": {Object: "leaf1", Address: addr("fe80::9%eth0"), AS: 65000, Filters: &calc.RouteFilters{Closed: "a filter is invalid"}},
			"b": {Object: "leaf2", Address: addr("fe80::9%eth1"), AS: 65000},
		}
	})
	calls, failed := apply(t, s, f, two)
	if strings.Contains(calls, "%eth1") || !strings.Contains(calls, "add peer fe80::9%eth0") {
		t.Errorf("calls:\n%s", calls)
	}
	expect(t, "error", failed, "BGP peer leaf2: fe80::9%eth1 is the address of peer leaf1 on another interface, and GoBGP cannot filter the two differently; "+
		"give both the same filters, AS numbers and nextHopMode, or one of them another link-local address")

	// With the same filters both are there. When one of them gets others, its session ends before the rules change.
	first, second := two.Peers["a"], two.Peers["b"]
	second.Filters = &calc.RouteFilters{Closed: "another filter is invalid"}
	two.Peers = map[string]calc.Peer{"a": first, "b": second}
	if calls, failed = apply(t, s, f, two); failed != "" || !strings.Contains(calls, "add peer fe80::9%eth1") {
		t.Errorf("the same filters: error %q, calls:\n%s", failed, calls)
	}
	second.Filters = nil
	two.Peers = map[string]calc.Peer{"a": first, "b": second}
	calls, _ = apply(t, s, f, two)
	if !strings.HasPrefix(calls, "delete peer fe80::9%eth1\n") {
		t.Errorf("calls when the filters differ again:\n%s", calls)
	}

	// A peer whose new settings are invalid keeps its session only as long as no other peer has the address.
	first.AS = 0
	two.Peers = map[string]calc.Peer{"a": first, "b": two.Peers["b"]}
	calls, _ = apply(t, s, f, two)
	if !strings.Contains(calls, "delete peer fe80::9%eth0") || !strings.Contains(calls, "add peer fe80::9%eth1") {
		t.Errorf("calls when the first is invalid:\n%s", calls)
	}
}

func TestNoPeerIsAddedWithoutPolicyOrServer(t *testing.T) {
	for _, step := range []string{"policy", "start"} {
		f := newFake()
		s := newSpeaker(quiet(), Options{}, f)
		f.fail = []string{step}
		calls, failed := apply(t, s, f, node())
		if failed == "" || strings.Contains(calls, "peer") || strings.Contains(calls, "announce") {
			t.Errorf("%s fails: error %q, calls\n%s", step, failed, calls)
		}
		f.fail = nil
		calls, _ = apply(t, s, f, node())
		if !strings.HasSuffix(calls, "add peer fd00::9 AS 65000") {
			t.Errorf("retry after %s failed:\n%s", step, calls)
		}
	}
}

func TestInvalidChangesKeepTheRunningSessions(t *testing.T) {
	tests := map[string]struct {
		change func(*calc.BGP)
		failed string
	}{
		"no AS":        {func(n *calc.BGP) { n.AS = 0 }, "no AS number"},
		"no router id": {func(n *calc.BGP) { n.RouterID = netip.Addr{} }, "no router id"},
		"a peer without AS": {func(n *calc.BGP) { setPeer(n, func(p *calc.Peer) { p.AS = 0 }) },
			"BGP peer tor: no AS number"},
		"a source of the other family": {func(n *calc.BGP) { setPeer(n, func(p *calc.Peer) { p.Source = addr("fd00::1") }) },
			"BGP peer tor: source fd00::1 is not of the peer's family"},
		"a second peer with the address": {func(n *calc.BGP) { n.Peers["Node_x"] = calc.Peer{Address: addr("10.0.0.9"), AS: 1, Port: 1179} },
			"BGP peer Node_x: 10.0.0.9 belongs to peer tor already"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			s := newSpeaker(quiet(), Options{}, f)
			apply(t, s, f, node())
			calls, failed := apply(t, s, f, with(test.change))
			expect(t, "calls", calls, "")
			if !strings.Contains(failed, test.failed) {
				t.Errorf("error %q does not contain %q", failed, test.failed)
			}
		})
	}
}

// restarted lists the calls of a start after a restart of the agent.
var restarted = strings.Replace(strings.ReplaceAll(started, "AS 65000", "AS 65000 restarting"), "add peer", "begin restart\nadd peer", 1)

func TestRestartIsAnnouncedOnceToTheFirstPeers(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{Restarting: true}, f)
	calls, _ := apply(t, s, f, with(func(n *calc.BGP) { clear(n.Peers) }))
	expect(t, "calls before there are peers", calls, "")
	calls, _ = apply(t, s, f, node())
	expect(t, "calls", calls, restarted)
	calls, _ = apply(t, s, f, with(func(n *calc.BGP) { setPeer(n, func(p *calc.Peer) { p.AS = 65001 }) }))
	expect(t, "calls of a later change", calls, "delete peer 10.0.0.9\nadd peer 10.0.0.9 AS 65001")
}

func TestRestartEndsWhenAllPeersHaveConnected(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{Restarting: true}, f)
	apply(t, s, f, node())
	s.observe(event{Address: addr("10.0.0.9"), Up: true})
	s.observe(event{Address: addr("10.0.0.9")})
	s.observe(event{Address: addr("10.0.0.9"), Up: true})
	expect(t, "calls while one has not connected", f.take(), "")
	s.observe(event{Address: addr("fd00::9"), Up: true})
	expect(t, "calls when both have", f.take(), "end restart")
	s.observe(event{Address: addr("fd00::9")})
	s.observe(event{Address: addr("fd00::9"), Up: true})
	expect(t, "calls after that", f.take(), "")
}

func TestRestartEndsWhenTheLatePeerIsRemoved(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{Restarting: true}, f)
	apply(t, s, f, node())
	s.observe(event{Address: addr("10.0.0.9"), Up: true})
	calls, _ := apply(t, s, f, with(func(n *calc.BGP) { delete(n.Peers, "Global_fd00__9") }))
	expect(t, "calls", calls, "delete peer fd00::9\nend restart")
}

func TestRestartEndsAfterTheRestartTime(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{Restarting: true}, f)
	apply(t, s, f, with(func(n *calc.BGP) {
		for name, p := range n.Peers {
			p.RestartTime = time.Second
			n.Peers[name] = p
		}
	}))
	f.take()
	var calls string
	lab.Until(t, "the end of the restart", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		calls = f.take()
		return calls != ""
	})
	expect(t, "calls", calls, "end restart")
}

func TestApplyContinuesWhenBeginningTheRestartFails(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{Restarting: true}, f)
	f.fail = []string{"begin restart"}
	calls, failed := apply(t, s, f, node())
	expect(t, "calls", calls, strings.Replace(restarted, "begin restart", "begin restart FAILS", 1))
	expect(t, "error", failed, "")
	calls, _ = apply(t, s, f, calc.BGP{})
	expect(t, "calls without peers", calls, "stop")
}

func TestApplyStartsAgainWithPeersButNotAfterClose(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	apply(t, s, f, node())
	calls, _ := apply(t, s, f, calc.BGP{})
	expect(t, "calls without peers", calls, "stop")
	calls, _ = apply(t, s, f, node())
	expect(t, "calls with peers again", calls, started)
	s.Close()
	expect(t, "calls of Close", f.take(), "")
	_, failed := apply(t, s, f, node())
	expect(t, "error of an Apply after Close", failed, errClosed.Error())
}

func TestStatusShowsPeersAndAnnouncedPaths(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	apply(t, s, f, node())
	f.states[addr("10.0.0.9")] = peerState{State: established, Takes4: true, Received: 7}
	f.states[addr("fd00::9")] = peerState{State: established}
	f.errors[addr("10.0.0.9")] = failure{Text: "connect: refused", At: time.Unix(1, 0)}
	before := time.Now()
	s.observe(event{Address: addr("10.0.0.9"), Up: true})

	got := s.Status()
	if got[0].Since.Before(before) {
		t.Errorf("since %v is before the session came up", got[0].Since)
	}
	got[0].Since, got[1].Since = time.Time{}, time.Time{}
	want := []PeerStatus{
		{Name: "Global_10_0_0_9", Object: "tor", Address: addr("10.0.0.9"), AS: 65000, State: established,
			LastError: "connect: refused", ErrorAt: time.Unix(1, 0), Announced: 1, Received: 7},
		{Name: "Global_fd00__9", Object: "tor6", Address: addr("fd00::9"), AS: 65000, State: established,
			Why: "the peer takes no IPv6 routes; enable that address family there"},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}

	wantPaths := []Announcement{
		{Prefix: prefix("192.0.2.0/26"), Communities: []string{"64512:1"}, Reason: "block", Peers: []string{"tor"}},
		{Prefix: prefix("2001:db8::40/122"), Reason: "block"},
	}
	if diff := cmp.Diff(wantPaths, s.Announced(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("announced (-want +got):\n%s", diff)
	}
}

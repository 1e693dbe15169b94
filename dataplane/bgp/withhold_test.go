package bgp

import (
	"slices"
	"strings"
	"testing"

	"github.com/margay-project/margay/calc"
)

// A peer that is withheld has no session, unless it is up, and is shown with the reason. It gets its session when it is withheld no more.
func TestWithheldPeersHaveNoSession(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	both := map[string]Withheld{"Global_10_0_0_9": {Why: "it waits", Soon: true}, "Global_fd00__9": {Why: "it waits", Soon: true}}
	reasons := func() (list []string) {
		for _, st := range s.Status() {
			if st.State == "Failed" {
				list = append(list, st.Name+" "+st.Why)
			}
		}
		return list
	}
	s.Withhold(both)
	apply(t, s, f, node())
	if got := strings.Join(reasons(), ", "); got != "Global_10_0_0_9 it waits, Global_fd00__9 it waits" {
		t.Errorf("at the start: %s", got)
	}
	s.Withhold(nil)
	apply(t, s, f, node())
	if got := reasons(); len(got) > 0 || len(f.states) != 2 {
		t.Errorf("withheld no more: %v, %v", got, f.states)
	}
	s.observe(event{Address: addr("10.0.0.9"), Up: true, Ends: 1})
	if up := s.Sessions(); len(up) != 1 || up["Global_10_0_0_9"].IsZero() {
		t.Errorf("up: %v", up)
	}
	s.Withhold(both)
	apply(t, s, f, node())
	if got := strings.Join(reasons(), ", "); got != "Global_fd00__9 it waits" || len(f.states) != 1 {
		t.Errorf("one was up: %s, %v", got, f.states)
	}
}

// A peer that is withheld for long is not awaited before routes of a former process go. One that comes soon is.
func TestWithheldPeersAndTheRestart(t *testing.T) {
	t.Parallel()
	for _, soon := range []bool{true, false} {
		f := newFake()
		s := newSpeaker(quiet(), Options{Restarting: true}, f)
		s.Withhold(map[string]Withheld{"Global_fd00__9": {Why: "it waits", Soon: soon}})
		apply(t, s, f, node())
		s.observe(event{Address: addr("10.0.0.9"), Up: true, Ends: 1})
		s.learned.end([]ending{{addr("10.0.0.9"), true}})
		if _, complete := s.TakeLearned(); complete == soon {
			t.Errorf("soon is %v, and complete is %v", soon, complete)
		}
		s.Withhold(nil)
		apply(t, s, f, node())
		if got := f.states[addr("fd00::9")].Restarting; got != soon {
			t.Errorf("soon is %v, and the peer hears of our restart: %v", soon, got)
		}
	}
}

// A peer is closed when it has sent more routes than allowed, and no other one is.
func TestALimitClosesOnePeer(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	want := node()
	for name, p := range want.Peers {
		p.MaxPrefixes = 7
		want.Peers[name] = p
	}
	apply(t, s, f, want)
	f.states[addr("10.0.0.9")] = peerState{State: established, Received: 8}
	f.states[addr("fd00::9")] = peerState{State: established, Received: 7}
	s.checkLimits()
	st := s.Status()
	if st[0].State != "Failed" || !strings.Contains(st[0].Why, "more than 7 routes") || st[1].State != established {
		t.Errorf("%+v", st)
	}
	apply(t, s, f, want)
	if len(f.states) != 1 {
		t.Errorf("the peer is back: %v", f.states)
	}
	want.Peers["Global_10_0_0_9"] = func() (p calc.Peer) { p = want.Peers["Global_10_0_0_9"]; p.MaxPrefixes = 9; return p }()
	apply(t, s, f, want)
	if len(f.states) != 2 {
		t.Errorf("a higher limit does not open the peer: %v", f.states)
	}
}

// A peer that a former process has closed stays closed, until the settings of its session change.
func TestALimitOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	if names, known := s.Limited(); known {
		t.Errorf("before the first Apply, these are limited: %v", names)
	}
	want := with(func(n *calc.BGP) { setPeer(n, func(p *calc.Peer) { p.MaxPrefixes = 7 }) })
	s.KeepLimited([]string{"Global_10_0_0_9", "gone"})
	expectLimited := func(what string, limited bool) {
		t.Helper()
		calls, failed := apply(t, s, f, want)
		names, known := s.Limited()
		if strings.Contains(calls, "add peer 10.0.0.9") == limited || failed != "" || slices.Contains(names, "Global_10_0_0_9") != limited || len(names) > 1 || !known {
			t.Errorf("%s: limited are %v; error %q, calls:\n%s", what, names, failed, calls)
		}
		if why := s.Status()[0].Why; strings.Contains(why, "more than 7 routes") != limited {
			t.Errorf("%s: status %q", what, why)
		}
	}
	for _, what := range []string{"the first time", "again"} {
		expectLimited(what, true)
	}
	<-s.News()
	setPeer(&want, func(p *calc.Peer) { p.Filters = &calc.RouteFilters{Import: []calc.RouteRule{{}}} })
	expectLimited("with other filters", true)
	setPeer(&want, func(p *calc.Peer) { p.MaxPrefixes = 8 })
	expectLimited("with another limit", false)
	<-s.News()
}

func TestSettingsOfTheSameSession(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(*calc.Peer)
		same   bool
	}{
		"nothing":  {func(*calc.Peer) {}, true},
		"filters":  {func(p *calc.Peer) { p.Filters = &calc.RouteFilters{} }, true},
		"limit":    {func(p *calc.Peer) { p.MaxPrefixes = 9 }, false},
		"address":  {func(p *calc.Peer) { p.Address = addr("10.0.0.8") }, false},
		"AS":       {func(p *calc.Peer) { p.AS = 1 }, false},
		"password": {func(p *calc.Peer) { p.Password.File = "/run/secret" }, false},
		"client":   {func(p *calc.Peer) { p.Client = true }, false},
	} {
		before := node().Peers["Global_10_0_0_9"]
		now := before
		row.change(&now)
		if got := SameSession(before, now); got != row.same {
			t.Errorf("%s: the same session is %v", name, got)
		}
	}
}

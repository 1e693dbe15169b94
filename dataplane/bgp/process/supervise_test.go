package process

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/calc"
)

// A new child knows nothing, so nothing that a former one has said counts any more.
func TestANewChildForgetsWhatTheFormerOneSaid(t *testing.T) {
	t.Parallel()
	p := &Process{
		news: make(chan struct{}, 1), try: func() {}, complete: true, up: map[string]time.Time{"a": time.Now()},
		learned: map[netip.Prefix][]netip.Addr{netip.MustParsePrefix("203.0.113.0/24"): {netip.MustParseAddr("10.0.0.1")}},
	}
	p.started(&connection{})
	if learned, complete, anew := p.TakeLearned(); len(learned) > 0 || complete || !anew || len(p.up) > 0 {
		t.Errorf("learned %v, complete is %v, anew is %v, up %v", learned, complete, anew, p.up)
	}
}

// A child that is killed during a search makes nobody suspect, and is not the reason why peers wait.
func TestAKilledChildDoesNotChangeASearch(t *testing.T) {
	t.Parallel()
	const panicked = "index out of range in GoBGP's packet/bgp.parse"
	p := &Process{options: Options{Log: quiet()}, want: calc.BGP{Peers: map[string]calc.Peer{"a": {}, "b": {}}}}
	p.crashed(errors.New(panicked))
	p.crashed(errors.New(panicked))
	before := p.withheld()
	if len(before) != 1 || !before["b"].Soon || !strings.Contains(before["b"].Why, panicked) {
		t.Fatalf("%+v", before)
	}
	until := p.suspects.until
	for range 3 {
		p.crashed(errors.New("signal: killed"))
		now := p.withheld()
		if len(now) != 1 || now["b"] != before["b"] {
			t.Errorf("%+v", now)
		}
	}
	if !p.suspects.until.After(until) {
		t.Error("the trial does not begin again with the child")
	}
}

// A closed peer whose settings change is another one, and is let in. Changes of others do not open it.
func TestAChangeOpensAClosedPeer(t *testing.T) {
	t.Parallel()
	tried, try := context.WithCancel(t.Context())
	try()
	p := &Process{options: Options{Log: quiet()}, tried: tried}
	want := func(a, b uint32) calc.BGP { return calc.BGP{Peers: map[string]calc.Peer{"a": {AS: a}, "b": {AS: b}}} }
	_ = p.Apply(want(1, 1)) // no child runs
	p.suspects.close("a", time.Now(), "panic")
	for _, now := range []struct {
		want   calc.BGP
		closed int
	}{{want(1, 1), 1}, {want(1, 2), 1}, {want(2, 2), 0}} {
		_ = p.Apply(now.want)
		if list := p.withheld(); len(list) != now.closed {
			t.Errorf("%+v: %+v", now.want.Peers, list)
		}
	}
}

// The next child hears which peers have sent too many routes, unless their sessions have other settings by then.
func TestLimitedPeersAreKeptForTheNextChild(t *testing.T) {
	t.Parallel()
	tried, try := context.WithCancel(t.Context())
	try()
	p := &Process{options: Options{Log: quiet()}, tried: tried, news: make(chan struct{}, 1), try: func() {}}
	peer := func(as uint32, most uint32) calc.Peer {
		return calc.Peer{Address: netip.MustParseAddr("10.0.0.9"), AS: as, MaxPrefixes: most}
	}
	want := func(peers map[string]calc.Peer) {
		_ = p.Apply(calc.BGP{Peers: peers}) // no child runs
	}
	want(map[string]calc.Peer{"a": peer(1, 7), "b": peer(2, 7), "c": peer(3, 7)})
	p.limitedAre([]string{"a", "b", "gone"})
	p.crashed(errors.New("signal: killed"))
	p.started(&connection{})
	p.crashed(errors.New("signal: killed"))
	expect := func(what string, names ...string) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(p.limited)); !slices.Equal(got, names) {
			t.Errorf("%s: %v, want %v", what, got, names)
		}
	}
	expect("after two crashes", "a", "b")
	filtered := peer(1, 7)
	filtered.Filters = &calc.RouteFilters{}
	want(map[string]calc.Peer{"a": filtered, "b": peer(2, 8), "c": peer(3, 7)})
	expect("b has another limit", "a")
	p.limitedAre([]string{"a", "c"})
	expect("c has sent too many", "a", "c")
	want(map[string]calc.Peer{"c": peer(3, 7)})
	expect("a is not wanted", "c")
	p.limitedAre(nil)
	expect("the child has let c in")
}

// The routes of a former child stay until the next one has heard of all: what it has heard so far is not all.
func TestAChildThatHasEndedIsNotComplete(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]*Process{
		"ended": {options: Options{Log: quiet()}, complete: true}, "replaced": {options: Options{Log: quiet()}, complete: true, replaced: true},
	} {
		p.crashed(errors.New("signal: killed"))
		if _, complete, _ := p.TakeLearned(); complete {
			t.Errorf("%s: complete", name)
		}
	}
}

func TestPausesGrowWhileChildrenEndAtOnce(t *testing.T) {
	t.Parallel()
	pause := time.Duration(0)
	var pauses []string
	for range 10 {
		pause = pauseAfter(pauseReset, pause)
		pauses = append(pauses, pause.String())
	}
	if got, want := strings.Join(pauses, " "), "50ms 100ms 200ms 400ms 800ms 1.6s 3.2s 6.4s 10s 10s"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := pauseAfter(pauseReset+1, pause); got != firstPause {
		t.Errorf("after a child that lived longer: %v", got)
	}
}

package process

import (
	"context"
	"errors"
	"net/netip"
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

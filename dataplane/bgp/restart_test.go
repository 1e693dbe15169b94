package bgp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// A speaker that is killed again and again before its sessions are up costs no route, because it has not yet said that it has
// announced everything.
func TestSpeakerThatCrashesRepeatedlyCausesNoRouteChange(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), birdConfig(routerAS))
	changes := followRoutes(l)
	s := changes.announced(t, l, b)
	for range 4 {
		s = restart(t, l, s, 0)
	}
	s.waitUp(t)
	if got := changes.further(); len(got) > 0 {
		t.Errorf("route changes at the router:\n%s", strings.Join(got, "\n"))
	}
}

// A router gives up the routes of a speaker that stays away for longer than its restart time, and takes them when it is back.
func TestSpeakerThatStaysAwayLosesItsRoutes(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), birdConfig(routerAS))
	n := node(routerAS)
	for name, p := range n.Peers {
		p.RestartTime = time.Second
		n.Peers[name] = p
	}
	s := run(t, l.host, "speaker")
	s.apply(t, n)
	b.AwaitRoute(block4)
	b.AwaitRoute(block6)
	s.waitUp(t)
	s.Kill()
	b.AwaitNoRoute(block4)
	b.AwaitNoRoute(block6)
	s = run(t, l.host, "restarted speaker")
	s.apply(t, n)
	b.AwaitRoute(block4)
	b.AwaitRoute(block6)
}

// The routes of a router that does not come back are withdrawn after the router's restart time, not before.
func TestRoutesOfARouterThatStaysAwayAreWithdrawn(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	config := strings.ReplaceAll(birdConfig(routerAS), "graceful restart on;", "graceful restart on; graceful restart time 20;")
	b := router.StartBIRD(t, l.router, t.TempDir(), config)
	s := run(t, l.host, "speaker")
	s.apply(t, node(routerAS))
	learned := routes{}
	lab.Await(t, func() error {
		a := s.ask(t, request{Learned: true})
		for prefix, hops := range a.Learned {
			learned[prefix] = hops
		}
		if len(learned) != 1 {
			return fmt.Errorf("learned: %v", learned)
		}
		return nil
	})
	b.Kill()
	lab.Await(t, func() error {
		for _, st := range s.status(t) {
			if st.State == "Established" {
				return fmt.Errorf("%+v", st)
			}
		}
		return nil
	})
	if a := s.ask(t, request{Learned: true}); len(a.Learned) > 0 {
		t.Errorf("routes change at once: %v", a.Learned)
	}
	s.awaitLearned(t, learned, false)
}

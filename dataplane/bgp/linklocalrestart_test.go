package bgp_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// A restart of the speaker changes no route of either family at the router.
func TestRestartedSpeakerChangesNoRouteOfALinkLocalPeer(t *testing.T) {
	t.Parallel()
	for kind, protocol := range map[string]netlink.RouteProtocol{"BIRD": unix.RTPROT_BIRD, "FRR": unix.RTPROT_BGP} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := newLinkLocalPair(t)
			r := startLinkLocalRouter(t, l, kind, routerAS)
			changes := &routeChanges{soFar: l.router.FollowRoutes(protocol)}
			s := changes.announced(t, l, r)
			for range 2 {
				s = restart(t, l, s, time.Second)
				s.waitUp(t)
				awaitNothingStale(t, r)
			}
			if got := changes.further(); len(got) > 0 {
				t.Errorf("route changes at the router:\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// awaitNothingStale waits until a router has both ends of RIB. If the speaker is killed before, the router drops what is still stale.
func awaitNothingStale(t *testing.T, r linkLocalRouter) {
	t.Helper()
	lab.Await(t, func() error {
		for command, stale := range map[string]string{
			"show protocols all session":      "Neighbor graceful restart active", // BIRD
			"show bgp ipv4 unicast " + block4: "stale",                            // FRR
			"show bgp ipv6 unicast " + block6: "stale",
		} {
			if out, err := r.Ask(command); err == nil && strings.Contains(out, stale) {
				return fmt.Errorf("%s: %s", command, out)
			}
		}
		return nil
	})
}

// The speaker keeps the routes of both families while a router restarts.
func TestRoutesOfARestartingLinkLocalPeerStay(t *testing.T) {
	t.Parallel()
	t.Run("BIRD", func(t *testing.T) {
		t.Parallel()
		l := newLinkLocalPair(t)
		b := router.StartBIRD(t, l.router, t.TempDir(), birdLinkLocal(routerAS, "extended next hop on;"))
		routesStay(t, l, b.Restart)
	})
	t.Run("FRR", func(t *testing.T) {
		t.Parallel()
		l := newLinkLocalPair(t)
		f := router.StartFRR(t, l.router, addressed(routerAS))
		routesStay(t, l, func() {
			f.Kill()
			f.StartBGP()
		})
	})
}

func routesStay(t *testing.T, l *pair, restart func()) {
	t.Helper()
	s := run(t, l.host, "speaker")
	s.apply(t, l.node())
	s.waitUp(t)
	s.awaitLearned(t, routes{}, true, linkLocalRoutes...)
	before := s.status(t)[0]
	restart()
	lab.Await(t, func() error {
		if st := s.status(t)[0]; st.Since == before.Since || st.State != "Established" || st.Announced != 2 || st.Received < 2 {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	s.awaitComplete(t)
	if a := s.ask(t, request{Learned: true}); len(a.Learned) > 0 {
		t.Errorf("the restart of the router changes learned routes: %v", a.Learned)
	}
}

// awaitComplete waits until the peers have sent all their routes. Changes of routes are an error.
func (p *process) awaitComplete(t *testing.T) {
	t.Helper()
	lab.Await(t, func() error {
		a := p.ask(t, request{Learned: true})
		if len(a.Learned) > 0 {
			t.Fatalf("learned routes change: %v", a.Learned)
		}
		if !a.Complete {
			return fmt.Errorf("the peer has not sent all its routes")
		}
		return nil
	})
}

// A session between link-local addresses ends when its interface loses its carrier or is deleted, and comes back with an interface of
// the same name.
func TestALinkLocalSessionFollowsItsInterface(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]struct{ lose, back func(l *pair) }{
		"the cable is pulled out": {
			func(l *pair) { l.router.Down(cable) },
			func(l *pair) { l.router.Up(cable, routerLL+"/64") },
		},
		"the interface is made anew": {
			func(l *pair) { l.host.MustRun("ip", "link", "delete", cable) },
			func(l *pair) {
				lab.Cable(l.host, "before", l.host, "other") // takes the next index
				lab.Cable(l.host, cable, l.router, cable)
				upWithOnly(l.host, cable, hostLL)
				upWithOnly(l.router, cable, routerLL)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLinkLocalPair(t)
			b := router.StartBIRD(t, l.router, t.TempDir(), impatient(birdLinkLocal(routerAS, "extended next hop on;")))
			s := run(t, l.host, "speaker")
			s.apply(t, l.node())
			s.waitUp(t)
			learned := routes{}
			s.awaitLearned(t, learned, true, linkLocalRoutes...)
			step.lose(l)
			s.awaitLearned(t, learned, false)
			if st := s.status(t)[0]; st.State == "Established" || !strings.Contains(st.LastError, "interface cable has lost its carrier") {
				t.Errorf("status: %+v", st)
			}
			step.back(l)
			b.AwaitRoute(block4, hostLL)
			b.AwaitRoute(block6, hostLL)
			s.awaitLearned(t, learned, true, linkLocalRoutes...)
		})
	}
}

// The peer waits for connections. The status names the interface that is missing, and the speaker connects by one that is made anew.
func TestTheSpeakerConnectsByAnInterfaceThatWasMadeAnew(t *testing.T) {
	t.Parallel()
	l := newLinkLocalPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), strings.Replace(birdLinkLocal(routerAS, "extended next hop on;"), "direct;", "direct; passive on;", 1))
	s := run(t, l.host, "speaker")
	s.apply(t, l.node())
	s.waitUp(t)
	l.host.MustRun("ip", "link", "delete", cable)
	b.AwaitNoRoute(block4)
	lab.Await(t, func() error {
		if st := s.status(t)[0]; !strings.HasPrefix(st.Why, "connect: interface cable does not exist, is down, or has no link-local address") {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	lab.Cable(l.host, "before", l.host, "other") // takes the next index
	lab.Cable(l.host, cable, l.router, cable)
	upWithOnly(l.host, cable, hostLL)
	upWithOnly(l.router, cable, routerLL)
	b.AwaitRoute(block4, hostLL)
	s.waitUp(t)
}

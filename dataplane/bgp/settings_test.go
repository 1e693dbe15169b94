package bgp_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// impatient makes the router of birdConfig connect often.
func impatient(config string) string {
	return strings.ReplaceAll(config, "graceful restart on;",
		"connect delay time 1; connect retry time 1; error wait time 1, 2; graceful restart on;")
}

// only4 is the node with only its session of IPv4, changed.
func only4(change func(*calc.Peer)) calc.BGP {
	n := node(routerAS)
	delete(n.Peers, "v6")
	changePeer(&n, change)
	return n
}

// learnedBy gathers what a speaker learns.
type learnedBy map[netip.Prefix]bool

func (l learnedBy) from(t *testing.T, s *process) learnedBy {
	t.Helper()
	for p, ways := range s.ask(t, request{Learned: true}).Learned {
		l[p] = len(ways) > 0
	}
	return l
}

func TestALocalASReplacesTheNodesOwn(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), strings.ReplaceAll(birdConfig(routerAS), fmt.Sprint("as ", hostAS), "as 64999"))
	s := run(t, l.host, "speaker")
	s.apply(t, only4(func(p *calc.Peer) { p.LocalAS = 64999 }))
	b.AwaitRoute(block4, "BGP.as_path: 64999\n")
}

func TestRoutesWithTheOwnASAreTakenAsOftenAsAllowed(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	looped := strings.Replace(birdConfig(routerAS), "export where source = RTS_STATIC;",
		"export filter { if net = 198.51.100.0/24 then { bgp_path.prepend(64512); bgp_path.prepend(64512); } if source = RTS_STATIC then accept; reject; };", 1)
	router.StartBIRD(t, l.router, t.TempDir(), strings.Replace(looped, "route 0.0.0.0/0", "route 198.51.100.0/24", 1))
	s := run(t, l.host, "speaker")
	for allowed, want := range []bool{false, false, true} {
		s.apply(t, only4(func(p *calc.Peer) { p.AllowOwnAS = uint8(allowed) }))
		lab.Await(t, func() error {
			if st := s.status(t)[0]; st.State != "Established" || st.Received != 2 {
				return fmt.Errorf("%+v", st)
			}
			return nil
		})
		got := learnedBy{}
		lab.Await(t, func() error {
			if !got.from(t, s)[prefix("203.0.113.0/24")] || want && !got[prefix("198.51.100.0/24")] {
				return fmt.Errorf("learned: %v", got)
			}
			return nil
		})
		if got[prefix("198.51.100.0/24")] != want {
			t.Errorf("with %d allowed: learned %v", allowed, got)
		}
	}
}

func TestAShortKeepaliveTimeShortensTheHoldTime(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), birdConfig(routerAS))
	s := run(t, l.host, "speaker")
	for keepalive, timers := range map[time.Duration]string{0: "/90", time.Second: "/3", 50 * time.Millisecond: "/3", 20 * time.Second: "/60"} {
		s.apply(t, only4(func(p *calc.Peer) { p.Keepalive = keepalive }))
		lab.Await(t, func() error {
			out, err := b.Ask("show protocols all session4")
			for line := range strings.SplitSeq(out, "\n") {
				if strings.Contains(line, "Hold timer:") && strings.HasSuffix(strings.TrimSpace(line), timers) {
					return err
				}
			}
			return fmt.Errorf("keepalive %v: no hold time %s in\n%s", keepalive, timers, out)
		})
	}
}

// A router that sends too many routes loses its session. Everything else goes on.
func TestTooManyRoutesCloseTheSession(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	// Now and then GoBGP takes the end of the session for a restart of the router. It must not keep the routes for the restart time.
	both := strings.ReplaceAll(impatient(birdConfig(routerAS)), "graceful restart on;", "graceful restart on; graceful restart time 4095;")
	b := router.StartBIRD(t, l.router, t.TempDir(), strings.Replace(both, "route 0.0.0.0/0 blackhole;", "", 1))
	s := run(t, l.host, "speaker")
	n := node(routerAS)
	changePeer(&n, func(p *calc.Peer) { p.MaxPrefixes = 1 })
	s.apply(t, n)
	first := learnedBy{}
	lab.Await(t, func() error {
		if !first.from(t, s)[prefix("203.0.113.0/24")] {
			return fmt.Errorf("learned before there are too many: %v", first)
		}
		return nil
	})
	b.Configure(both) // now it sends two
	lab.Await(t, func() error {
		st := s.status(t)
		if st[0].State == "Established" || st[1].State != "Established" || !strings.Contains(st[0].Why, "sent more than 1 routes, so the session is closed") {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	lab.Await(t, func() error {
		if first.from(t, s)[prefix("203.0.113.0/24")] {
			return errors.New("the route of the closed session is still learned")
		}
		return nil
	})
	s.apply(t, n) // the peer stays closed
	if st := s.status(t)[0]; st.State != "Failed" || !strings.Contains(st.Why, "sent more than 1 routes") {
		t.Errorf("%+v", st)
	}
	without := node(routerAS)
	delete(without.Peers, "v4")
	s.apply(t, without)
	s.apply(t, n) // the peer gets a new session, and closes it again
	lab.Await(t, func() error {
		if st := s.status(t)[0]; st.State != "Failed" || !strings.Contains(st.Why, "sent more than 1 routes") {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	n = node(routerAS)
	changePeer(&n, func(p *calc.Peer) { p.MaxPrefixes = 2 })
	s.apply(t, n)
	got := learnedBy{}
	lab.Await(t, func() error {
		if st := s.status(t)[0]; st.State != "Established" || st.Why != "" || !got.from(t, s)[prefix("203.0.113.0/24")] {
			return fmt.Errorf("%+v, learned %v", st, got)
		}
		return nil
	})
}

func TestBindModeNodeIPListensOnTheNodesAddressesOnly(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	l.host.Up(cable, "10.99.0.3/24")
	b := router.StartBIRD(t, l.router, t.TempDir(), impatient(birdConfig(routerAS)))
	var log lab.Output
	s := runLogging(t, l.host, "restarted speaker", &log)
	n := node(routerAS)
	n.BindNodeIP = true
	for name, p := range n.Peers {
		p.Passive = true
		n.Peers[name] = p
	}
	s.apply(t, n)
	s.waitUp(t)
	b.AwaitRoute(block4)
	b.AwaitRoute(block6)
	if text := log.String(); strings.Contains(text, "only restarted") {
		t.Errorf("the speaker cannot tell that it has restarted: %s", text)
	}
	dial := func() (err error) {
		conn, err := net.DialTimeout("tcp4", "10.99.0.3:179", lab.Patience)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := l.router.Do(dial); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("connect to another address: %v", err)
	}
	n.V4 = prefix("10.99.0.77/24")
	if got := s.ask(t, request{Apply: &n}).Error; !strings.Contains(got, "no interface of this machine has the address of the Node") {
		t.Errorf("error when no interface has the address: %q", got)
	}
	n.BindNodeIP, n.V4 = false, prefix(host4+"/24")
	s.apply(t, n)
	if err := l.router.Do(dial); err != nil {
		t.Errorf("connect after bindMode None: %v", err)
	}
}

// A host, a hop, and a router.
func TestTTLSecurityCountsHops(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hops uint8
		up   bool
	}{"as many as there are": {2, true}, "too few": {1, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, hop, far := lab.NewHost(t), lab.NewHost(t), lab.NewHost(t)
			lab.Cable(host, cable, hop, "near")
			lab.Cable(hop, "far", far, cable)
			host.Up(cable, host4+"/24")
			hop.Up("near", "10.99.0.254/24")
			hop.Up("far", "10.98.0.254/24")
			far.Up(cable, "10.98.0.2/24")
			hop.Forward()
			host.RouteVia("10.98.0.0/24", "10.99.0.254")
			far.RouteVia("10.99.0.0/24", "10.98.0.254")
			config := strings.ReplaceAll(impatient(birdConfig(routerAS)), router4, "10.98.0.2")
			config, _, _ = strings.Cut(config, "protocol bgp session6")
			router.StartBIRD(t, far, t.TempDir(), strings.Replace(config, "graceful restart on;", "multihop 2; ttl security on;", 1))
			s := run(t, host, "speaker")
			s.apply(t, only4(func(p *calc.Peer) { p.Address, p.TTLSecurity = addr("10.98.0.2"), c.hops }))
			if c.up {
				s.waitUp(t)
				return
			}
			lab.Await(t, func() error {
				if st := s.status(t)[0]; st.State == "Established" {
					t.Fatalf("%+v", st)
				}
				if n := counter(host, "TCPMinTTLDrop"); n < 3 {
					return fmt.Errorf("only %d segments were dropped", n)
				}
				return nil
			})
		})
	}
}

// counter reads a counter of TCP of a host.
func counter(host *lab.Host, name string) (n int) {
	host.Must(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/netstat")
		lines := strings.SplitN(string(text), "\n", 3)
		values := strings.Fields(lines[1])
		for i, field := range strings.Fields(lines[0]) {
			if field == name {
				_, err = fmt.Sscan(values[i], &n)
			}
		}
		return err
	})
	return n
}

package bgp_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

const (
	block4, block6 = "192.0.2.64/26", "2001:db8::40/122"
	hostAS         = 64512
	routerAS       = 65001
)

// node has a session with the router for each family.
func node(peerAS uint32) calc.BGP {
	return calc.BGP{
		AS:       hostAS,
		RouterID: addr(host4),
		V4:       prefix(host4 + "/24"),
		V6:       prefix(host6 + "/64"),
		Peers: map[string]calc.Peer{
			"v4": {Object: "router-v4", Address: addr(router4), AS: peerAS},
			"v6": {Object: "router-v6", Address: addr(router6), AS: peerAS, Source: addr(host6)},
		},
		Paths: map[netip.Prefix]calc.Path{
			prefix(block4): {Communities: []string{"64512:100", "64512:7:4294967295"}, Reason: "block"},
			prefix(block6): {Reason: "block"},
		},
	}
}

// without returns the node without some of its paths, as after a pool is disabled.
func without(n calc.BGP, prefixes ...string) calc.BGP {
	n.Paths = maps.Clone(n.Paths)
	for _, p := range prefixes {
		delete(n.Paths, prefix(p))
	}
	return n
}

// birdConfig configures a router with a session for each family. The router announces its static routes to the host.
func birdConfig(as uint32) string {
	return fmt.Sprintf(`
router id %[1]s;
protocol device { }
protocol kernel kernel4 { ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel kernel6 { ipv6 { import none; export where source = RTS_BGP; }; }
protocol static offered { ipv4; route 203.0.113.0/24 blackhole; route 0.0.0.0/0 blackhole; }
protocol bgp session4 {
	local %[1]s as %[2]d; neighbor %[3]s as %[4]d;
	graceful restart on;
	ipv4 { import all; export where source = RTS_STATIC; };
}
protocol bgp session6 {
	local %[5]s as %[2]d; neighbor %[6]s as %[4]d;
	graceful restart on;
	ipv6 { import all; export none; };
}
`, router4, as, host4, hostAS, router6, host6)
}

func TestBIRDFollowsAnnouncedPaths(t *testing.T) {
	t.Parallel()
	for name, as := range map[string]uint32{"eBGP": routerAS, "iBGP": hostAS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newPair(t)
			b := router.StartBIRD(t, l.router, t.TempDir(), birdConfig(as))
			s := run(t, l.host, "speaker")
			s.apply(t, node(as))

			attributes := []string{"BGP.next_hop: " + host4, "BGP.community: (64512,100)", "BGP.large_community: (64512, 7, 4294967295)"}
			if as == hostAS {
				attributes = append(attributes, "BGP.local_pref: 2147482623")
			} else {
				attributes = append(attributes, "BGP.as_path: 64512")
			}
			b.AwaitRoute(block4, attributes...)
			b.AwaitRoute(block6, "BGP.next_hop: "+host6)

			s.apply(t, without(node(as), block4))
			b.AwaitNoRoute(block4)
			b.AwaitRoute(block6)
			s.apply(t, node(as))
			b.AwaitRoute(block4, attributes...)

			changed := without(node(as))
			changed.Paths[prefix(block4)] = calc.Path{Communities: []string{"64512:200"}}
			s.apply(t, changed)
			b.AwaitRoute(block4, "BGP.community: (64512,200)")

			s.apply(t, calc.BGP{}) // without peers the speaker ends its sessions
			b.AwaitNoRoute(block4)
			b.AwaitNoRoute(block6)
			s.apply(t, node(as))
			b.AwaitRoute(block4)
		})
	}
}

func TestStatusShowsTheRoutesOfEachPeer(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	router.StartBIRD(t, l.router, t.TempDir(), birdConfig(routerAS))
	s := run(t, l.host, "speaker")
	n := node(routerAS)
	n.Peers["absent"] = calc.Peer{Address: addr("10.99.0.7"), AS: routerAS}
	began := time.Now()
	s.apply(t, n)

	lab.Await(t, func() error {
		st := s.status(t)
		switch {
		case len(st) != 3 || st[0].Name != "absent" || st[1].Name != "v4" || st[2].Name != "v6":
			return fmt.Errorf("%+v", st)
		case st[0].State == "Established" || st[0].Announced != 0 || !strings.Contains(st[0].LastError, "connect:"):
			return fmt.Errorf("%+v", st[0])
		case st[1].State != "Established" || st[1].Announced != 1 || st[1].Received != 2 || st[1].Since.Before(began):
			return fmt.Errorf("%+v", st[1])
		case st[2].State != "Established" || st[2].Announced != 1 || st[2].Received != 0:
			return fmt.Errorf("%+v", st[2])
		}
		return nil
	})
	a := s.ask(t, request{Announced: true}).Announced
	if len(a) != 2 || !slices.Equal(a[0].Peers, []string{"router-v4"}) || !slices.Equal(a[1].Peers, []string{"router-v6"}) {
		t.Errorf("announced: %+v", a)
	}
}

func TestStatusShowsAWrongASNumber(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	router.StartBIRD(t, l.router, t.TempDir(), birdConfig(routerAS))
	s := run(t, l.host, "speaker")
	s.apply(t, node(routerAS+1))
	lab.Await(t, func() error {
		for _, st := range s.status(t) {
			if st.State == "Established" {
				t.Fatal("a router of another AS was accepted")
			}
			if !strings.Contains(st.LastError, "session") {
				return fmt.Errorf("%+v", st)
			}
		}
		return nil
	})
	wrong := s.status(t)[0].LastError
	s.apply(t, node(routerAS))
	lab.Await(t, func() error {
		for _, st := range s.status(t) {
			if st.LastError == wrong {
				t.Fatalf("the error of the wrong AS number is still shown: %+v", st)
			}
			if st.State == "Idle" { // BIRD waits for minutes after an error, so the session need not come up here
				return fmt.Errorf("%+v", st)
			}
		}
		return nil
	})
}

func TestSpeakerListensWithPlainTCPAndReportsATakenPort(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	s := run(t, l.host, "speaker")
	s.apply(t, node(routerAS))
	const tcp, mptcp = 6, 262
	if got := s.ask(t, request{Listeners: true}).Listeners; !slices.Equal(got, []int{tcp, tcp}) {
		t.Errorf("protocols of the listeners: %v, want IPv4 and IPv6, both %d (%d takes no TCP MD5 signatures)", got, tcp, mptcp)
	}

	second := run(t, l.host, "speaker")
	n := node(routerAS)
	got := second.ask(t, request{Apply: &n}).Error
	if !strings.Contains(got, "listen for BGP on port 179: another process has it") || strings.Contains(got, "\n") {
		t.Errorf("error when the port is taken: %q", got)
	}
	n.ListenPort = 1179
	second.apply(t, n)
	s.Kill()
	n.ListenPort = 0
	second.apply(t, n)
	if got := second.ask(t, request{Listeners: true}).Listeners; !slices.Equal(got, []int{tcp, tcp}) {
		t.Errorf("listeners after the port was free: %v", got)
	}
	if got := second.ask(t, request{Apply: &n, Second: true}).Error; !strings.Contains(got, "has a BGP speaker already") {
		t.Errorf("error of a second speaker in one process: %q", got)
	}
}

// routeChanges records the changes that BIRD makes to the router's kernel routes.
type routeChanges struct {
	soFar func() []string
	known int // number of changes that the test has awaited
}

func followRoutes(l *pair) *routeChanges {
	return &routeChanges{soFar: l.router.FollowRoutes(unix.RTPROT_BIRD)}
}

// await waits until the changes name each of the prefixes. All changes up to then count as known.
func (c *routeChanges) await(t *testing.T, prefixes ...string) {
	t.Helper()
	lab.Await(t, func() error {
		all := c.soFar()
		for _, p := range prefixes {
			if !strings.Contains(strings.Join(all, "\n"), p) {
				return fmt.Errorf("the kernel has no route to %s: %v", p, all)
			}
		}
		c.known = len(all)
		return nil
	})
}

func (c *routeChanges) further() []string { return c.soFar()[c.known:] }

// announced starts a speaker, and waits until the router has its blocks, in the kernel too.
func (c *routeChanges) announced(t *testing.T, l *pair, r interface {
	AwaitRoute(prefix string, texts ...string)
}) *process {
	t.Helper()
	s := run(t, l.host, "speaker")
	s.apply(t, l.node())
	r.AwaitRoute(block4)
	r.AwaitRoute(block6)
	s.waitUp(t)
	c.await(t, block4, block6)
	return s
}

// restart kills a speaker and starts it again. The router must keep the routes meanwhile.
func restart(t *testing.T, l *pair, s *process, pause time.Duration) *process {
	t.Helper()
	s.Kill()
	lab.LetPass(pause)
	s = run(t, l.host, "restarted speaker")
	s.apply(t, l.node())
	return s
}

func TestKilledSpeakerCausesNoRouteChange(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), birdConfig(routerAS))
	changes := followRoutes(l)
	s := changes.announced(t, l, b)
	for range 3 {
		s = restart(t, l, s, time.Second)
		s.waitUp(t)
	}
	if got := changes.further(); len(got) > 0 {
		t.Errorf("route changes at the router:\n%s", strings.Join(got, "\n"))
	}

	// The watch sees changes, and a first start does not announce a restart.
	s.Kill()
	s = run(t, l.host, "speaker")
	s.apply(t, without(node(routerAS), block4))
	b.AwaitNoRoute(block4)
	lab.Await(t, func() error {
		if len(changes.further()) == 0 {
			return fmt.Errorf("the withdrawal was not seen")
		}
		return nil
	})
}

// One peer reconnects and sends all its routes seconds before the other can connect.
func TestPeerThatConnectsLateAfterARestartKeepsItsRoutes(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	only4, _, _ := strings.Cut(birdConfig(routerAS), "protocol bgp session6")
	b := router.StartBIRD(t, l.router, t.TempDir(), only4)
	r := run(t, l.router, "router")
	err := json.NewEncoder(r.in).Encode(router.Config{AS: routerAS, RouterID: addr(router4), Port: 1179, Neighbours: []router.Neighbour{
		{Address: addr(host6), AS: hostAS},
	}})
	if err != nil {
		t.Fatal(err)
	}
	n := node(routerAS)
	n.Peers["v6"] = calc.Peer{Address: addr(router6), Port: 1179, AS: routerAS}
	changes := followRoutes(l)
	s := run(t, l.host, "speaker")
	s.apply(t, n)
	b.AwaitRoute(block4)
	s.waitUp(t)
	changes.await(t, block4)

	s.Kill()
	l.host.RemoveAddress(cable, host4+"/24")
	s = run(t, l.host, "restarted speaker")
	s.apply(t, n)
	lab.Await(t, func() error {
		if st := s.status(t); st[1].Announced == 0 || st[0].State == "Established" {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	lab.LetPass(2 * time.Second) // the peer is late
	l.host.Up(cable, host4+"/24")
	s.waitUp(t)
	lab.LetPass(time.Second) // no route may change
	if got := changes.further(); len(got) > 0 {
		t.Errorf("route changes at the router:\n%s", strings.Join(got, "\n"))
	}
	out, err := b.Ask("show protocols all session4")
	if err != nil || !strings.Contains(out, "AF preserved: ipv4") {
		t.Errorf("the late peer was not told that forwarding continued: %v\n%s", err, out)
	}
}

func TestTTLSecurityWorksOnBothSides(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	secured := strings.ReplaceAll(birdConfig(routerAS), "graceful restart on;", "graceful restart on; ttl security on;")
	b := router.StartBIRD(t, l.router, t.TempDir(), secured)
	s := run(t, l.host, "speaker")
	n := node(routerAS)
	for name, p := range n.Peers {
		p.TTLSecurity = 1
		n.Peers[name] = p
	}
	s.apply(t, n)
	b.AwaitRoute(block4)
	b.AwaitRoute(block6)
}

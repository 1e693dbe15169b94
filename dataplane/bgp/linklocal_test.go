package bgp_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// The ends of a cable without other addresses.
const hostLL, routerLL = "fe80::1", "fe80::2"

// newLinkLocalPair is a host and a router with a cable between them whose ends have only link-local addresses.
func newLinkLocalPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{host: lab.NewHost(t), router: lab.NewHost(t), linkLocal: true}
	lab.Cable(p.host, cable, p.router, cable)
	upWithOnly(p.host, cable, hostLL)
	upWithOnly(p.router, cable, routerLL)
	return p
}

// upWithOnly brings an interface up with one link-local address. The kernel would add another one, and connect from it.
func upWithOnly(h *lab.Host, dev, address string) {
	h.Sysctl("ipv6/conf/"+dev+"/addr_gen_mode", "1")
	h.Up(dev, address+"/64")
}

// linkLocalNode has one session with the router, for both families.
func linkLocalNode(peerAS uint32) calc.BGP {
	n := node(peerAS)
	n.V4, n.V6 = netip.Prefix{}, netip.Prefix{}
	n.Peers = map[string]calc.Peer{"leaf": {Object: "leaf", Address: addr(routerLL + "%" + cable), AS: peerAS}}
	return n
}

// birdLinkLocal configures a router with one session for both families. It announces one network of each.
func birdLinkLocal(as uint32, options string) string {
	return fmt.Sprintf(`
router id %[1]s;
protocol device { }
protocol kernel kernel4 { ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel kernel6 { ipv6 { import none; export where source = RTS_BGP; }; }
protocol static four { ipv4; route 203.0.113.0/24 blackhole; }
protocol static six { ipv6; route 2001:db8:ff::/64 blackhole; }
protocol bgp session {
	local %[2]s as %[3]d; neighbor %[4]s as %[5]d; interface "%[6]s"; direct;
	graceful restart on;
	ipv4 { import all; export where source = RTS_STATIC; %[7]s };
	ipv6 { import all; export where source = RTS_STATIC; };
}
`, router4, routerLL, as, hostLL, hostAS, cable, options)
}

// frrLinkLocal configures a router with one session for both families. FRR names a neighbour by its address or by the interface.
func frrLinkLocal(as uint32, neighbour string, lines ...string) string {
	text := fmt.Sprintf(`
router bgp %d
 bgp router-id %s
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 bgp graceful-restart
`, as, router4)
	for _, line := range lines {
		text += " neighbor " + neighbour + " " + line + "\n"
	}
	return text + fmt.Sprintf(` neighbor %[1]s timers connect 1
 address-family ipv4 unicast
  network 203.0.113.0/24
  neighbor %[1]s activate
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:ff::/64
  neighbor %[1]s activate
 exit-address-family
`, neighbour)
}

// addressed configures FRR with the address of the host.
func addressed(as uint32) string {
	return frrLinkLocal(as, hostLL, fmt.Sprint("remote-as ", hostAS), "interface "+cable, "capability extended-nexthop")
}

// linkLocalRouter is BIRD or FRR.
type linkLocalRouter interface {
	Ask(command string) (string, error)
	AwaitRoute(prefix string, texts ...string)
	AwaitNoRoute(prefix string)
}

func startLinkLocalRouter(t *testing.T, l *pair, kind string, as uint32) linkLocalRouter {
	t.Helper()
	if kind == "FRR" {
		return router.StartFRR(t, l.router, addressed(as))
	}
	return router.StartBIRD(t, l.router, t.TempDir(), birdLinkLocal(as, "extended next hop on;"))
}

var linkLocalRoutes = []string{"2001:db8:ff::/64 [fe80::2%cable", "203.0.113.0/24 [fe80::2%cable"}

// One session carries both families in both directions. The routes are in the router's kernel too.
func TestOneSessionBetweenLinkLocalAddressesCarriesBothFamilies(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"BIRD", "FRR"} {
		for name, as := range map[string]uint32{"eBGP": routerAS, "iBGP": hostAS} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				l := newLinkLocalPair(t)
				r := startLinkLocalRouter(t, l, kind, as)
				s := run(t, l.host, "speaker")
				s.apply(t, linkLocalNode(as))
				r.AwaitRoute(block4, hostLL)
				r.AwaitRoute(block6, hostLL)
				s.waitUp(t)
				lab.Await(t, func() error {
					have := l.router.MustRun("ip", "route") + l.router.MustRun("ip", "-6", "route")
					if !strings.Contains(have, "via inet6 fe80::1 dev cable") || strings.Count(have, "via fe80::1 dev cable") != 1 {
						return fmt.Errorf("the router's kernel has\n%s", have)
					}
					return nil
				})
				learned := routes{}
				s.awaitLearned(t, learned, true, linkLocalRoutes...)
				st := s.status(t)[0]
				if st.Why != "" || st.Announced != 2 || st.Received < 2 {
					t.Errorf("status: %+v", st)
				}
				for _, route := range s.ask(t, request{Received: true}).Received {
					own := route.Prefix == prefix(block4) || route.Prefix == prefix(block6) // FRR sends ours back
					if route.Best == own || route.Neighbour != addr("fe80::2%cable") || !own && route.NextHop != route.Neighbour {
						t.Errorf("received: %+v", route)
					}
				}

				s.apply(t, without(linkLocalNode(as), block4))
				r.AwaitNoRoute(block4)
				r.AwaitRoute(block6)
				s.apply(t, without(linkLocalNode(as), block6))
				r.AwaitNoRoute(block6)
				r.AwaitRoute(block4)
			})
		}
	}
}

// A router without extended next hops takes no IPv4 routes over the session. The status says so, unless there is another session for them.
func TestStatusNamesTheFamilyThatALinkLocalPeerDoesNotTake(t *testing.T) {
	t.Parallel()
	l := newLinkLocalPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), birdLinkLocal(routerAS, ""))
	s := run(t, l.host, "speaker")
	n := linkLocalNode(routerAS)
	s.apply(t, n)
	b.AwaitRoute(block6)
	awaitWhy := func(want string, announced int) {
		t.Helper()
		lab.Await(t, func() error {
			for _, st := range s.status(t) {
				if st.Name == "leaf" && (!strings.HasPrefix(st.Why, want) || want == "" && st.Why != "" || st.Announced != announced || st.State != "Established") {
					return fmt.Errorf("%+v", st)
				}
			}
			return nil
		})
	}
	awaitWhy("the peer takes no IPv4 routes with IPv6 next hops", 1)
	if out, err := b.Ask("show route " + block4); err != nil || strings.Contains(out, block4) {
		t.Errorf("BIRD has %s, error %v", out, err)
	}
	s.awaitLearned(t, routes{}, true, linkLocalRoutes[0])

	s.apply(t, without(n, block4))
	awaitWhy("", 1)
	two := linkLocalNode(routerAS)
	two.Peers["v4"] = calc.Peer{Object: "v4", Address: addr("10.99.0.7"), AS: routerAS}
	s.apply(t, two)
	awaitWhy("", 1)
	b.Configure(strings.ReplaceAll(birdLinkLocal(routerAS, "extended next hop on;"), "ipv6 { import all; export where source = RTS_STATIC; };", ""))
	b.AwaitRoute(block4)
	delete(two.Peers, "v4")
	s.apply(t, two)
	awaitWhy("the peer takes no IPv6 routes", 1)
}

// The rules of filters keep to their families, in both directions, and change while the session is up.
func TestFiltersJudgeBothFamiliesOfALinkLocalPeer(t *testing.T) {
	t.Parallel()
	l := newLinkLocalPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), birdLinkLocal(routerAS, "extended next hop on;"))
	s := run(t, l.host, "speaker")
	learned := routes{}
	with := func(f *calc.RouteFilters) {
		t.Helper()
		n := linkLocalNode(routerAS)
		p := n.Peers["leaf"]
		p.Filters = f
		n.Peers["leaf"] = p
		s.apply(t, n)
	}
	all4 := calc.RouteRule{Within: prefix("0.0.0.0/0"), Longest: 32}
	all6 := calc.RouteRule{Within: prefix("::/0"), Longest: 128}
	not4 := calc.RouteRule{Within: prefix("198.51.100.0/24"), Shortest: 24, Longest: 32, Outside: true}
	with(&calc.RouteFilters{Import: []calc.RouteRule{all4}, Export: []calc.RouteRule{all6}})
	b.AwaitRoute(block4, hostLL)
	s.awaitLearned(t, learned, true, linkLocalRoutes[0])
	b.AwaitNoRoute(block6)
	since := s.status(t)[0].Since
	with(&calc.RouteFilters{Import: []calc.RouteRule{all6}, Export: []calc.RouteRule{not4}})
	b.AwaitRoute(block6, hostLL)
	b.AwaitNoRoute(block4)
	s.awaitLearned(t, learned, true, linkLocalRoutes[1])
	with(&calc.RouteFilters{Closed: "a filter is missing"})
	b.AwaitNoRoute(block6)
	s.awaitLearned(t, learned, true)
	with(nil)
	b.AwaitRoute(block4, hostLL)
	b.AwaitRoute(block6, hostLL)
	s.awaitLearned(t, learned, true, linkLocalRoutes...)
	if now := s.status(t)[0]; now.Since != since {
		t.Errorf("the session was reset: %+v", now)
	}
}

func TestTTLSecurityWorksBetweenLinkLocalAddresses(t *testing.T) {
	t.Parallel()
	l := newLinkLocalPair(t)
	f := router.StartFRR(t, l.router, frrLinkLocal(routerAS, hostLL, fmt.Sprint("remote-as ", hostAS), "interface "+cable, "capability extended-nexthop", "ttl-security hops 1"))
	s := run(t, l.host, "speaker")
	n := linkLocalNode(routerAS)
	p := n.Peers["leaf"]
	p.TTLSecurity = 1
	n.Peers["leaf"] = p
	s.apply(t, n)
	f.AwaitRoute(block4)
	f.AwaitRoute(block6)
}

// The limit counts the routes of both families.
func TestALinkLocalPeerThatSendsTooManyRoutesIsClosed(t *testing.T) {
	t.Parallel()
	l := newLinkLocalPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), birdLinkLocal(routerAS, "extended next hop on;"))
	s := run(t, l.host, "speaker")
	n := linkLocalNode(routerAS)
	p := n.Peers["leaf"]
	p.MaxPrefixes = 2
	n.Peers["leaf"] = p
	s.apply(t, n)
	s.waitUp(t)
	learned := routes{}
	s.awaitLearned(t, learned, true, linkLocalRoutes...)
	b.Configure(strings.Replace(birdLinkLocal(routerAS, "extended next hop on;"), "route 2001:db8:ff::/64 blackhole;",
		"route 2001:db8:ff::/64 blackhole; route 2001:db8:fe::/64 blackhole;", 1))
	lab.Await(t, func() error {
		if st := s.status(t)[0]; st.State != "Failed" || !strings.Contains(st.Why, "more than 2 routes") {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	for _, prefix := range []string{block4, block6} {
		b.AwaitNoRoute(prefix)
	}
	lab.Await(t, func() error {
		a := s.ask(t, request{Learned: true})
		for prefix, hops := range a.Learned {
			learned[prefix] = hops
		}
		for prefix, hops := range learned {
			if len(hops) > 0 {
				return fmt.Errorf("still learned: %v by %v", prefix, hops)
			}
		}
		return nil
	})
}

// On a cable that has a network too, FRR sends its address of that network as the next hop, and BIRD its link-local one. Either is on the
// network of the session's interface.
func TestANextHopOfALinkLocalPeerHasTheInterfaceOfTheSession(t *testing.T) {
	t.Parallel()
	for kind, hop := range map[string]string{"BIRD": "fe80::2%cable", "FRR": "fd99::2%cable"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := newLinkLocalPair(t)
			l.host.Up(cable, host6+"/64")
			l.router.Up(cable, router6+"/64")
			r := startLinkLocalRouter(t, l, kind, routerAS)
			s := run(t, l.host, "speaker")
			s.apply(t, l.node())
			r.AwaitRoute(block4, hostLL)
			r.AwaitRoute(block6, hostLL)
			s.awaitLearned(t, routes{}, true, "2001:db8:ff::/64 ["+hop, "203.0.113.0/24 ["+hop)
		})
	}
}

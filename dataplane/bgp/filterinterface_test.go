package bgp_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// hopsConfig configures a router in the host's AS. It announces three IPv4 networks, with next hops at itself, at the second router of the
// fabric, and where the host has no route to, and one IPv6 network.
const hopsConfig = `
router id 10.99.0.2;
protocol device { }
protocol static four {
	ipv4;
	route 203.0.113.0/24 blackhole;
	route 203.0.114.0/24 blackhole;
	route 203.0.115.0/24 blackhole;
}
protocol static six { ipv6; route 2001:db8:1::/48 blackhole; }
protocol bgp session4 {
	local 10.99.0.2 as 64512; neighbor 10.99.0.1 as 64512;
	graceful restart on;
	ipv4 { import all; export filter {
		if net = 203.0.114.0/24 then bgp_next_hop = 10.99.1.2;
		if net = 203.0.115.0/24 then bgp_next_hop = 10.88.0.1;
		if source = RTS_STATIC then accept;
		reject;
	}; };
}
protocol bgp session6 {
	local fd99:0::2 as 64512; neighbor fd99:0::1 as 64512;
	graceful restart on;
	ipv6 { import all; export where source = RTS_STATIC; };
}
`

const (
	direct   = "203.0.113.0/24 [10.99.0.2"
	third    = "203.0.114.0/24 [10.99.1.2"
	nowhere  = "203.0.115.0/24 [10.88.0.1"
	direct6  = "2001:db8:1::/48 [fd99::2"
	notFound = "there is no route to the next hop 10.88.0.1"
)

// hopsLab is a host with a router whose routes have next hops behind several interfaces of the host.
type hopsLab struct {
	host    *lab.Host
	speaker *process
	node    calc.BGP
	learned routes
	since   map[string]time.Time // of the sessions
}

func newHopsLab(t *testing.T) *hopsLab {
	host, hosts := fabric(t)
	router.StartBIRD(t, hosts[0], t.TempDir(), hopsConfig)
	l := &hopsLab{host: host, learned: routes{}, since: map[string]time.Time{}, node: calc.BGP{
		AS: hostAS, RouterID: addr("10.99.0.1"), Paths: map[netip.Prefix]calc.Path{prefix(block4): {}, prefix(block6): {}}, Peers: map[string]calc.Peer{
			"four": {Address: addr("10.99.0.2"), AS: hostAS}, "six": {Address: addr("fd99::2"), AS: hostAS},
		},
	}}
	l.speaker = run(t, host, "speaker")
	l.speaker.apply(t, l.node)
	l.speaker.waitUp(t)
	l.expect(t, direct6, direct, third, nowhere)
	for _, p := range l.speaker.status(t) {
		l.since[p.Name] = p.Since
	}
	return l
}

// filter gives both sessions import rules.
func (l *hopsLab) filter(t *testing.T, rules ...calc.RouteRule) {
	t.Helper()
	l.node.Peers = maps.Clone(l.node.Peers)
	for name, p := range l.node.Peers {
		p.Filters = &calc.RouteFilters{Import: rules}
		l.node.Peers[name] = p
	}
	l.speaker.apply(t, l.node)
}

// expect waits for the routes of the host. No session may have been reset.
func (l *hopsLab) expect(t *testing.T, want ...string) {
	t.Helper()
	want = slices.Clone(want)
	slices.Sort(want)
	l.speaker.awaitLearned(t, l.learned, true, want...)
	for _, p := range l.speaker.status(t) {
		if since, known := l.since[p.Name]; known && (p.State != "Established" || !p.Since.Equal(since)) {
			t.Errorf("the session %s was reset: %+v", p.Name, p)
		}
	}
}

func (l *hopsLab) awaitWhy(t *testing.T, want string) {
	t.Helper()
	lab.Await(t, func() error {
		if why := l.speaker.status(t)[0].Why; !strings.HasPrefix(why, want) || want == "" && why != "" {
			return fmt.Errorf("status: %q", why)
		}
		return nil
	})
}

func by(pattern string, accept bool) calc.RouteRule {
	return calc.RouteRule{Interface: pattern, Accept: accept}
}

// BIRD decides by the interface to the next hop too, whichever way the session goes.
func TestImportRulesJudgeTheInterfaceToTheNextHop(t *testing.T) {
	t.Parallel()
	l := newHopsLab(t)
	rest := calc.RouteRule{}
	for _, row := range []struct {
		name  string
		rules []calc.RouteRule
		want  []string
	}{
		{"accept one", []calc.RouteRule{by("eth0", true), rest}, []string{direct6, direct}},
		{"accept another one", []calc.RouteRule{by("eth1", true), rest}, []string{third}},
		{"accept all", []calc.RouteRule{by("eth*", true), rest}, []string{direct6, direct, third}},
		{"accept none", []calc.RouteRule{by("wlan0", true), rest}, nil},
		{"reject one", []calc.RouteRule{by("eth0", false)}, []string{third}},
		{"reject another one", []calc.RouteRule{by("eth1", false)}, []string{direct6, direct}},
		{"reject all", []calc.RouteRule{by("*", false)}, nil},
		{"reject none", []calc.RouteRule{by("wlan0", false)}, []string{direct6, direct, third}},
		{"after another rule", []calc.RouteRule{accepted(within("203.0.115.0/24", 24, 24), calc.RouteChanges{}), by("eth*", false)}, []string{nowhere}},
		{"no rule", nil, []string{direct6, direct, third, nowhere}},
	} {
		t.Log(row.name)
		l.filter(t, row.rules...)
		l.expect(t, row.want...)
	}
}

// A next hop without a way is accepted by no rule with an interface. When ways change, routes are judged again, without a reset.
func TestImportRulesWithAnInterfaceFollowTheRoutesOfTheHost(t *testing.T) {
	t.Parallel()
	l := newHopsLab(t)
	l.filter(t, by("eth1", true), calc.RouteRule{})
	l.expect(t, third)
	l.awaitWhy(t, notFound)
	for _, r := range l.speaker.ask(t, request{Received: true}).Received {
		if r.NextHop == addr("10.88.0.1") && !strings.Contains(r.Unused, "there is no route to the next hop") {
			t.Errorf("received: %+v", r)
		}
	}

	l.host.Up("eth1", "10.88.0.2/24")
	l.expect(t, third, nowhere)
	l.awaitWhy(t, "")
	l.host.RouteVia("10.99.1.2/32", "10.99.0.7") // now behind eth0
	l.expect(t, nowhere)
	l.host.MustRun("ip", "route", "del", "10.99.1.2/32")
	l.expect(t, third, nowhere)

	l.filter(t, by("eth1", false))
	l.expect(t, direct6, direct)
	l.host.RemoveAddress("eth1", "10.88.0.2/24")
	l.awaitWhy(t, notFound)
	l.filter(t, by("wlan0", false))
	l.expect(t, direct6, direct, third)
	l.host.Up("eth1", "10.88.0.2/24")
	l.expect(t, direct6, direct, third, nowhere)
}

func TestImportRulesJudgeTheInterfaceOfALinkLocalSession(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"BIRD", "FRR"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := newLinkLocalPair(t)
			startLinkLocalRouter(t, l, kind, routerAS)
			s := run(t, l.host, "speaker")
			learned := routes{}
			with := func(rules ...calc.RouteRule) {
				t.Helper()
				n := linkLocalNode(routerAS)
				p := n.Peers["leaf"]
				p.Filters = &calc.RouteFilters{Import: append(rules, within("192.0.2.0/24", 24, 32), within("2001:db8::/64", 64, 128))} // FRR sends ours back
				n.Peers["leaf"] = p
				s.apply(t, n)
			}
			with(by("cab*", false))
			s.waitUp(t)
			s.awaitLearned(t, learned, true)
			since := s.status(t)[0].Since
			with(by("eth0", false))
			s.awaitLearned(t, learned, true, linkLocalRoutes...)
			with(by("eth0", true), calc.RouteRule{})
			s.awaitLearned(t, learned, true)
			with(by(cable, true), calc.RouteRule{})
			s.awaitLearned(t, learned, true, linkLocalRoutes...)
			if st := s.status(t)[0]; st.State != "Established" || !st.Since.Equal(since) || st.Why != "" {
				t.Errorf("status: %+v", st)
			}
		})
	}
}

// FRR learns the routes of another router from the reflector, if they are behind the right interface of the reflector.
func TestExportRulesOfAReflectorJudgeTheInterfaceToTheNextHop(t *testing.T) {
	t.Parallel()
	host, hosts := fabric(t)
	router.StartBIRD(t, hosts[1], t.TempDir(), clientConfig(1, hostAS))
	f := router.StartFRR(t, hosts[0], fmt.Sprintf(`
router bgp %[1]d
 bgp router-id 10.99.0.2
 neighbor 10.99.0.1 remote-as %[1]d
 neighbor 10.99.0.1 timers connect 1
 address-family ipv4 unicast
  neighbor 10.99.0.1 activate
 exit-address-family
`, hostAS))
	n := reflector()
	s := run(t, host, "speaker")
	s.apply(t, n)
	const own, block = "192.0.2.128/26", "192.0.2.64/26"
	f.AwaitRoute(block, "10.99.1.2")
	export := func(rules ...calc.RouteRule) {
		t.Helper()
		s.changePeer(t, &n, "0", func(p *calc.Peer) { p.Filters = &calc.RouteFilters{Export: rules} })
	}
	export(by("eth1", false))
	f.AwaitNoRoute(block)
	f.AwaitRoute(own)
	export(by("eth0", false))
	f.AwaitRoute(block, "10.99.1.2", "65001:7:8\n")
	export(by("eth0", true), within(block, 26, 26))
	f.AwaitNoRoute(block)
	s.changePeer(t, &n, "0", func(p *calc.Peer) { p.NextHop = "Self" })
	export(by("eth1", true), within(block, 26, 26))
	f.AwaitRoute(block, "10.99.0.1")
	host.RouteVia("10.99.1.2/32", "10.99.0.7") // now behind eth0
	f.AwaitNoRoute(block)
	f.AwaitRoute(own)
}

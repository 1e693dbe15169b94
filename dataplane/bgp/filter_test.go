package bgp_test

import (
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

// filterConfig configures a router that offers routes with attributes, and puts what it learns into its kernel.
func filterConfig(i int, as uint32) string {
	return fmt.Sprintf(`
router id 10.99.%[1]d.2;
protocol device { }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
protocol static four {
	ipv4;
	route 0.0.0.0/0 blackhole;
	route 203.0.113.0/24 blackhole { bgp_community.add((65001, 7)); };
	route 203.0.113.64/26 blackhole { bgp_large_community.add((65001, 7, 8)); bgp_path.prepend(65009); bgp_path.prepend(65008); };
}
protocol static six { ipv6; route ::/0 blackhole; route 2001:db8:1::/48 blackhole; }
protocol bgp session4 {
	local 10.99.%[1]d.2 as %[2]d; neighbor 10.99.%[1]d.1 as %[3]d;
	graceful restart on;
	ipv4 { import all; export where source = RTS_STATIC; };
}
protocol bgp session6 {
	local fd99:%[1]d::2 as %[2]d; neighbor fd99:%[1]d::1 as %[3]d;
	graceful restart on;
	ipv6 { import all; export where source = RTS_STATIC; };
}
`, i, as, hostAS)
}

// filterLab is a host with two routers that have the same routes. The host filters the routes of the first one only.
type filterLab struct {
	speaker *process
	node    calc.BGP
	routers [2]*router.BIRD
	learned routes
	other   *routeChanges // in the kernel of the second router
	since   []time.Time   // of the sessions
}

const filteredPeer = "router0-4"

func newFilterLab(t *testing.T, as uint32) *filterLab {
	host, hosts := fabric(t)
	l := &filterLab{learned: routes{}, node: calc.BGP{AS: hostAS, RouterID: addr("10.99.0.1"), Peers: map[string]calc.Peer{}, Paths: map[netip.Prefix]calc.Path{
		prefix("192.0.2.64/26"):   {Reason: "block", Communities: []string{"64512:100", "64512:1:2"}},
		prefix("192.0.2.129/32"):  {Reason: "borrowed", Interface: "cali1"},
		prefix("198.51.100.0/24"): {Reason: "block"},
		prefix("2001:db8::/122"):  {Reason: "block"},
	}}}
	for i := range hosts {
		l.routers[i] = router.StartBIRD(t, hosts[i], t.TempDir(), filterConfig(i, as))
		l.node.Peers[fmt.Sprintf("router%d-4", i)] = calc.Peer{Address: addr(fmt.Sprintf("10.99.%d.2", i)), AS: as}
		l.node.Peers[fmt.Sprintf("router%d-6", i)] = calc.Peer{Address: addr(fmt.Sprintf("fd99:%d::2", i)), AS: as}
	}
	l.other = &routeChanges{soFar: hosts[1].FollowRoutes(unix.RTPROT_BIRD)}
	l.speaker = run(t, host, "speaker")
	l.speaker.apply(t, l.node)
	l.speaker.waitUp(t)
	l.other.await(t, "192.0.2.64/26", "192.0.2.129", "198.51.100.0/24")
	for _, p := range l.speaker.status(t) {
		l.since = append(l.since, p.Since)
	}
	return l
}

// filter gives the first router's IPv4 session other filters.
func (l *filterLab) filter(t *testing.T, f *calc.RouteFilters) {
	t.Helper()
	l.node.Peers = maps.Clone(l.node.Peers)
	p := l.node.Peers[filteredPeer]
	p.Filters = f
	l.node.Peers[filteredPeer] = p
	l.speaker.apply(t, l.node)
}

// undisturbed checks that no session was reset, and that the second router's routes have not changed for a moment.
func (l *filterLab) undisturbed(t *testing.T) {
	t.Helper()
	for i, p := range l.speaker.status(t) {
		if p.State != "Established" || !p.Since.Equal(l.since[i]) {
			t.Errorf("the session %s was reset: %+v", p.Name, p)
		}
	}
	if got := l.other.further(); len(got) > 0 {
		t.Errorf("routes of the router that is not filtered have changed:\n%s", strings.Join(got, "\n"))
	}
}

// table returns a line for each route that a router has learned: the prefix, and its attributes but for the next hop and the origin.
func table(b *router.BIRD) (string, error) {
	out, err := b.Ask("show route all protocol session4")
	if err != nil {
		return "", err
	}
	var lines []string
	for _, line := range strings.Split(out, "\n") {
		fields := strings.Fields(line)
		for i, field := range fields {
			if p, err := netip.ParsePrefix(strings.TrimPrefix(field, "1007-")); err == nil && i == 0 {
				lines = append(lines, p.String())
			}
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		shown := slices.Contains([]string{"BGP.as_path", "BGP.community", "BGP.large_community", "BGP.local_pref"}, name)
		if shown && len(lines) > 0 && value != "100" { // BIRD gives this local preference to routes without one
			lines[len(lines)-1] += " " + strings.TrimPrefix(name, "BGP.") + " " + value
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

func awaitTable(t *testing.T, b *router.BIRD, want ...string) {
	t.Helper()
	slices.Sort(want)
	lab.Await(t, func() error {
		got, err := table(b)
		if err == nil && got != strings.Join(want, "\n") {
			err = fmt.Errorf("the router has:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
		}
		return err
	})
}

func within(p string, shortest, longest int) calc.RouteRule {
	return calc.RouteRule{Within: prefix(p), Shortest: shortest, Longest: longest}
}

func (l *filterLab) exports(t *testing.T, rules ...calc.RouteRule) {
	t.Helper()
	l.filter(t, &calc.RouteFilters{Export: rules})
}

func accepted(r calc.RouteRule, c calc.RouteChanges) calc.RouteRule {
	r.Accept, r.Changes = true, c
	return r
}

// Each row follows on the former one, so the rows also tighten and loosen.
func TestExportFiltersChangeWhatTheRouterHasWithoutAReset(t *testing.T) {
	t.Parallel()
	l := newFilterLab(t, routerAS)
	const (
		block    = "192.0.2.64/26 as_path 64512 community (64512,100) large_community (64512, 1, 2)"
		borrowed = "192.0.2.129/32 as_path 64512"
		pool     = "198.51.100.0/24 as_path 64512"
	)
	all := []string{borrowed, block, pool}
	awaitTable(t, l.routers[0], all...)
	rest := calc.RouteRule{}
	for _, row := range []struct {
		name  string
		rules []calc.RouteRule
		want  []string
	}{
		{"reject everything", []calc.RouteRule{rest}, nil},
		{"accept one prefix", []calc.RouteRule{accepted(within("198.51.100.0/24", 24, 24), calc.RouteChanges{}), rest}, []string{pool}},
		{"reject a range of lengths", []calc.RouteRule{within("192.0.2.0/24", 27, 32)}, []string{block, pool}},
		{"reject outside", []calc.RouteRule{{Within: prefix("192.0.2.0/24"), Shortest: 24, Longest: 32, Outside: true}}, []string{borrowed, block}},
		{"by interface", []calc.RouteRule{{Interface: "cal*"}}, []string{block, pool}},
		{"by another interface", []calc.RouteRule{{Interface: "eth*"}}, all},
		{"by community", []calc.RouteRule{{Community: "64512:100"}}, []string{borrowed, pool}},
		{"by large community", []calc.RouteRule{{Community: "64512:1:2"}}, []string{borrowed, pool}},
		{"by the metric of own routes", []calc.RouteRule{{Priority: 1024}}, nil},
		{"by another metric", []calc.RouteRule{{Priority: 1025}}, all},
		{"learned routes only", []calc.RouteRule{{Learned: true}}, all},
		{"by AS path", []calc.RouteRule{{ASPath: []uint32{64512}}}, all},
		{"the first rule decides", []calc.RouteRule{accepted(within("192.0.2.64/26", 26, 26), calc.RouteChanges{}), within("192.0.2.0/24", 24, 32)}, []string{block, pool}},
		{"add communities", []calc.RouteRule{accepted(within("192.0.2.0/24", 24, 32), calc.RouteChanges{Communities: []string{"64512:100", "64512:9", "1:2:3"}})},
			[]string{borrowed + " community (64512,100) (64512,9) large_community (1, 2, 3)",
				"192.0.2.64/26 as_path 64512 community (64512,100) (64512,9) large_community (64512, 1, 2) (1, 2, 3)", pool}},
		{"prepend", []calc.RouteRule{accepted(within("198.51.100.0/24", 24, 24), calc.RouteChanges{Prepend: []uint32{64512, 64512}}),
			accepted(rest, calc.RouteChanges{Prepend: []uint32{65100, 65200}})},
			[]string{"192.0.2.129/32 as_path 64512 65100 65200 64512",
				"192.0.2.64/26 as_path 64512 65100 65200 64512 community (64512,100) large_community (64512, 1, 2)", "198.51.100.0/24 as_path 64512 64512 64512"}},
		{"no rule", nil, all},
	} {
		l.exports(t, row.rules...)
		t.Log(row.name)
		awaitTable(t, l.routers[0], slices.Clone(row.want)...)
		l.undisturbed(t)
	}
	l.filter(t, &calc.RouteFilters{Closed: "a filter is missing"})
	awaitTable(t, l.routers[0])
	l.filter(t, nil)
	awaitTable(t, l.routers[0], all...)
	awaitTable(t, l.routers[1], all...)
	l.undisturbed(t)
}

func TestExportFilterSetsTheLocalPreferenceForPeersInTheSameAS(t *testing.T) {
	t.Parallel()
	l := newFilterLab(t, hostAS)
	l.exports(t, accepted(within("198.51.100.0/24", 24, 24), calc.RouteChanges{Priority: 100, Prepend: []uint32{65100}}), calc.RouteRule{})
	awaitTable(t, l.routers[0], "198.51.100.0/24 as_path 65100 local_pref 2147483547")
	l.undisturbed(t)
}

// The host hears the same routes from both routers, so a route that a filter refuses keeps the next hop of the second one.
func TestImportFiltersChangeWhatTheHostLearnsWithoutAReset(t *testing.T) {
	t.Parallel()
	l := newFilterLab(t, routerAS)
	const (
		both  = " [10.99.0.2 10.99.1.2"
		one   = " [10.99.1.2"
		six   = "2001:db8:1::/48 [fd99::2 fd99:1::2"
		net   = "203.0.113.0/24"
		deep  = "203.0.113.64/26"
		first = " [10.99.0.2"
	)
	l.speaker.awaitLearned(t, l.learned, true, six, net+both, deep+both)
	rest := calc.RouteRule{}
	for _, row := range []struct {
		name  string
		rules []calc.RouteRule
		want  []string
	}{
		{"reject everything", []calc.RouteRule{rest}, []string{net + one, deep + one}},
		{"accept one prefix", []calc.RouteRule{accepted(within(deep, 26, 26), calc.RouteChanges{}), rest}, []string{net + one, deep + both}},
		{"reject a range of lengths", []calc.RouteRule{within(net, 24, 25)}, []string{net + one, deep + both}},
		{"reject outside", []calc.RouteRule{{Within: prefix(net), Shortest: 25, Longest: 32, Outside: true}}, []string{net + one, deep + both}},
		{"by community", []calc.RouteRule{{Community: "65001:7"}}, []string{net + one, deep + both}},
		{"by large community", []calc.RouteRule{{Community: "65001:7:8"}}, []string{net + both, deep + one}},
		{"by AS path", []calc.RouteRule{{ASPath: []uint32{65001, 65008}}}, []string{net + both, deep + one}},
		{"by an AS path that only looks alike", []calc.RouteRule{{ASPath: []uint32{65001, 6500}}}, []string{net + both, deep + both}},
		{"accept a default route", []calc.RouteRule{accepted(within("0.0.0.0/0", 0, 0), calc.RouteChanges{})}, []string{"0.0.0.0/0" + first, net + both, deep + both}},
		{"refuse it again", []calc.RouteRule{within(net, 24, 24)}, []string{net + one, deep + both}},
		{"accept any route", []calc.RouteRule{accepted(rest, calc.RouteChanges{})}, []string{"0.0.0.0/0" + first, net + both, deep + both}},
		{"prefer the other router", []calc.RouteRule{accepted(within(net, 24, 24), calc.RouteChanges{Prepend: []uint32{65001}})}, []string{net + one, deep + both}},
		{"prefer this router", []calc.RouteRule{accepted(within(net, 24, 24), calc.RouteChanges{Priority: 50})}, []string{net + first, deep + both}},
		{"no rule", nil, []string{net + both, deep + both}},
	} {
		t.Log(row.name)
		l.filter(t, &calc.RouteFilters{Import: row.rules})
		want := append([]string{six}, row.want...)
		slices.Sort(want)
		l.speaker.awaitLearned(t, l.learned, true, want...)
		l.undisturbed(t)
	}
	l.filter(t, &calc.RouteFilters{Closed: "a filter is missing"})
	l.speaker.awaitLearned(t, l.learned, true, six, net+one, deep+one)
	l.filter(t, nil)
	l.speaker.awaitLearned(t, l.learned, true, six, net+both, deep+both)
	l.undisturbed(t)
}

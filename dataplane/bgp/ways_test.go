package bgp

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/calc"
)

func TestNextHopsByInterface(t *testing.T) {
	w := ways{
		addr("10.0.0.1"): {"eth0"}, addr("10.0.0.2"): {"eth0", "wlan0"}, addr("10.0.0.3"): {"eth1", "wlan0"}, addr("10.0.0.4"): nil,
	}
	for _, row := range []struct {
		pattern          string
		accepts, rejects string
	}{
		{"eth0", "[10.0.0.1]", "[10.0.0.1 10.0.0.2]"},
		{"eth*", "[10.0.0.1]", "[10.0.0.1 10.0.0.2 10.0.0.3]"},
		{"*", "[10.0.0.1 10.0.0.2 10.0.0.3]", "[10.0.0.1 10.0.0.2 10.0.0.3]"},
		{"eth", "[]", "[]"},
		{"wlan0", "[]", "[10.0.0.2 10.0.0.3]"},
	} {
		if got := listed(w.by(row.pattern, true)); got != row.accepts {
			t.Errorf("%s accepts %s, want %s", row.pattern, got, row.accepts)
		}
		if got := listed(w.by(row.pattern, false)); got != row.rejects {
			t.Errorf("%s rejects %s, want %s", row.pattern, got, row.rejects)
		}
	}
}

func listed(list []netip.Addr) string {
	var texts []string
	for _, a := range list {
		texts = append(texts, a.String())
	}
	return "[" + strings.Join(texts, " ") + "]"
}

// filteredByInterface is the node whose IPv4 peer has import rules with interfaces.
func filteredByInterface(rules ...calc.RouteRule) calc.BGP {
	return with(func(n *calc.BGP) {
		setPeer(n, func(p *calc.Peer) { p.Filters = &calc.RouteFilters{Import: rules} })
	})
}

// newWithWays returns a Speaker for which packets to next hops leave by the interfaces in names.
func newWithWays(f *fakeServer, names map[netip.Addr][]string) *Speaker {
	s := newSpeaker(quiet(), Options{}, f)
	s.way.lookUp = func(next netip.Addr) []string { return names[next] }
	return s
}

func TestImportRulesWithAnInterfaceFollowTheWaysToNextHops(t *testing.T) {
	f, peer, other := newFake(), addr("10.0.0.9"), addr("10.0.0.7")
	names := map[netip.Addr][]string{peer: {"eth0"}}
	s := newWithWays(f, names)
	want := filteredByInterface(calc.RouteRule{Interface: "eth1"}, calc.RouteRule{Interface: "eth*", Accept: true}, calc.RouteRule{})
	calls, failed := apply(t, s, f, want)
	if failed != "" {
		t.Fatal(failed)
	}
	const policy = "policy import; peer [10.0.0.9] : set mark 2147483647; peer [10.0.0.9] next hop in [10.0.0.9] : unmark; "
	const rest = "; peer [10.0.0.9] : reject"
	if line := policy + "peer [10.0.0.9] no way : reject; peer [10.0.0.9] next hop in [10.0.0.9] : accept" + rest; !strings.Contains(calls, line) {
		t.Errorf("calls:\n%s\nwant:\n%s", calls, line)
	}

	// A route has another next hop, which has no way at first.
	now := time.Now()
	f.states[peer] = peerState{State: established, Received: 1, Takes4: true}
	f.hops = map[netip.Addr][]netip.Addr{peer: {other, peer}}
	s.lookAtWays(now, false)
	expect(t, "calls for a next hop without a way", f.take(), "")
	if why := s.Status()[0].Why; !strings.Contains(why, "no route to the next hop 10.0.0.7 of its routes") {
		t.Errorf("status: %q", why)
	}
	names[other] = []string{"eth1"}
	s.lookAtWays(now.Add(time.Second), true)
	expect(t, "calls when it has one", f.take(), strings.Replace(policy, "next hop in [10.0.0.9]", "next hop in [10.0.0.7 10.0.0.9]", 1)+
		"peer [10.0.0.9] next hop in [10.0.0.7] : reject; peer [10.0.0.9] no way : reject; peer [10.0.0.9] next hop in [10.0.0.7 10.0.0.9] : accept"+rest+
		"\nrefresh 10.0.0.9")
	if why := s.Status()[0].Why; why != "" {
		t.Errorf("status: %q", why)
	}

	// A way that changes without any event is noticed too.
	names[other] = []string{"eth2"}
	s.lookAtWays(now.Add(2*time.Second), false)
	expect(t, "calls before the next look", f.take(), "")
	s.lookAtWays(now.Add(waysAgain+2*time.Second), false)
	expect(t, "calls of the next look", f.take(), strings.Replace(policy, "next hop in [10.0.0.9]", "next hop in [10.0.0.7 10.0.0.9]", 1)+
		"peer [10.0.0.9] no way : reject; peer [10.0.0.9] next hop in [10.0.0.7 10.0.0.9] : accept"+rest+"\nrefresh 10.0.0.9")

	// The kernel has lost every way.
	clear(names)
	s.lookAtWays(now.Add(time.Minute), true)
	expect(t, "calls without any way", f.take(), "policy import; peer [10.0.0.9] : set mark 2147483647; peer [10.0.0.9] no way : reject"+rest+"\nrefresh 10.0.0.9")
	calls, _ = apply(t, s, f, node())
	expect(t, "calls without filters", calls, "policy import\nrefresh 10.0.0.9")
	s.lookAtWays(now.Add(time.Hour), true)
	expect(t, "calls later", f.take(), "")
}

func TestNextHopsAreReadAgainWhenRoutesMayHaveChanged(t *testing.T) {
	f, peer := newFake(), addr("10.0.0.9")
	s := newWithWays(f, map[netip.Addr][]string{peer: {"eth0"}})
	apply(t, s, f, filteredByInterface(calc.RouteRule{Interface: "eth0", Accept: true}))
	f.hops = map[netip.Addr][]netip.Addr{peer: {peer}}
	now := time.Now()
	expectRead := func(what string, want bool) {
		t.Helper()
		s.way.rest = time.Time{}
		if got := len(s.readHops(now)) > 0; got != want {
			t.Errorf("%s: next hops are read: %v", what, got)
		}
	}
	expectRead("at first", true)
	expectRead("nothing has changed", false)
	f.states[peer] = peerState{State: established, Received: 1}
	expectRead("a route has come", true)
	s.learned.put(map[netip.Prefix][]Way{prefix("203.0.113.0/24"): {{peer, peer}}})
	expectRead("a best route has changed", true)
	expectRead("nothing has changed again", false)
	now = now.Add(hopsAgain)
	expectRead("after a while", true)
}

// Over a link-local session all next hops are on the interface of the session.
func TestTheInterfaceOfALinkLocalSessionIsThatOfItsAddress(t *testing.T) {
	for _, row := range []struct{ zone, want string }{
		{"eth0", "policy import; peer [fe80::1%eth0] : reject"},
		{"wlan0", ""},
	} {
		f := newFake()
		s := newWithWays(f, nil)
		calls, _ := apply(t, s, f, with(func(n *calc.BGP) {
			clear(n.Peers)
			n.Peers["leaf"] = calc.Peer{Address: addr("fe80::1%" + row.zone), AS: 65000, Filters: &calc.RouteFilters{Import: []calc.RouteRule{{Interface: "eth*"}}}}
		}))
		var got string
		for line := range strings.Lines(calls) {
			if strings.HasPrefix(line, "policy import;") {
				got = strings.TrimSpace(line)
			}
		}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.zone, diff)
		}
	}
}

func TestPeersWithOneLinkLocalAddressAreUnlikeIfTheirInterfacesDecideOtherwise(t *testing.T) {
	for _, row := range []struct {
		pattern string
		unlike  bool
	}{{"eth0", true}, {"eth*", false}, {"wlan0", false}} {
		f := &calc.RouteFilters{Import: []calc.RouteRule{{Interface: row.pattern, Accept: true}}}
		a, b := calc.Peer{Address: addr("fe80::1%eth0"), AS: 1, Filters: f}, calc.Peer{Address: addr("fe80::1%eth1"), AS: 1, Filters: f}
		if got := unlike(node(), a, b); got != row.unlike {
			t.Errorf("%s: unlike is %v", row.pattern, got)
		}
	}
}

func TestExportRulesOfAReflectorWithAnInterfaceLookAtTheNextHopsOfAllPeers(t *testing.T) {
	f := newFake()
	peers := map[netip.Addr][]string{addr("10.0.0.9"): {"eth0"}, addr("fd00::9"): {"eth1"}}
	s := newWithWays(f, peers)
	calls, _ := apply(t, s, f, with(func(n *calc.BGP) {
		n.ClusterID, n.Paths = addr("1.0.0.1"), nil
		setPeer(n, func(p *calc.Peer) { p.Filters = &calc.RouteFilters{Export: []calc.RouteRule{{Interface: "eth1"}}} })
	}))
	expect(t, "calls", calls, `start AS 64512 id 10.0.0.1 port 179
		policy export; peer [10.0.0.9] mark 1 next hop in [fd00::9] : reject; peer [10.0.0.9] mark 1 no way : reject; mark 1 : reject
		policy import; : set mark 2147483647; next hop in [10.0.0.9 fd00::9] : unmark; : set mark 1
		policy export; own peer [10.0.0.9] : reject; peer [10.0.0.9] mark 1 next hop in [fd00::9] : reject; peer [10.0.0.9] mark 1 no way : reject; mark 1 : reject
		add peer 10.0.0.9 AS 65000
		add peer fd00::9 AS 65000`)
}

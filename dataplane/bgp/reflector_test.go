package bgp_test

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// clientConfig configures a router beside a reflector. It announces a block of its own, and a network outside of the pools.
func clientConfig(i int, as uint32) string {
	return fmt.Sprintf(`
router id 10.99.%[1]d.2;
protocol device { }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
protocol static four {
	ipv4;
	route 192.0.2.%[4]d/26 blackhole { bgp_community.add((65001, 7)); bgp_large_community.add((65001, 7, 8)); };
	route 203.0.113.%[4]d/26 blackhole;
}
protocol bgp session4 {
	local 10.99.%[1]d.2 as %[2]d; neighbor 10.99.%[1]d.1 as %[3]d;
	multihop; graceful restart on;
	ipv4 { gateway recursive; import all; export where source = RTS_STATIC; };
}
`, i, as, hostAS, i*64)
}

// reflector is the host of a fabric, which reflects routes between the two routers.
func reflector() calc.BGP {
	pool := prefix("192.0.2.0/24")
	return calc.BGP{
		AS: hostAS, RouterID: addr("10.99.0.1"), ClusterID: addr("244.0.0.1"),
		Transit: []calc.RouteRule{{Within: pool, Shortest: 24, Longest: 32, Accept: true}},
		Paths:   map[netip.Prefix]calc.Path{prefix("192.0.2.128/26"): {Reason: "block"}},
		Peers: map[string]calc.Peer{
			"0": {Address: addr("10.99.0.2"), AS: hostAS, Client: true}, "1": {Address: addr("10.99.1.2"), AS: hostAS, Client: true},
		},
	}
}

func (p *process) changePeer(t *testing.T, n *calc.BGP, name string, change func(*calc.Peer)) {
	t.Helper()
	n.Peers = maps.Clone(n.Peers)
	peer := n.Peers[name]
	change(&peer)
	n.Peers[name] = peer
	p.apply(t, *n)
}

func TestRoutersAreClientsOfAReflector(t *testing.T) {
	t.Parallel()
	host, hosts := fabric(t)
	var clients [2]*router.BIRD
	for i, on := range hosts {
		clients[i] = router.StartBIRD(t, on, t.TempDir(), clientConfig(i, hostAS))
	}
	n := reflector()
	s := run(t, host, "speaker")
	s.apply(t, n)
	for i, other := range []int{1, 0} {
		clients[i].AwaitRoute(fmt.Sprintf("192.0.2.%d/26", other*64), fmt.Sprintf("BGP.originator_id: 10.99.%d.2", other), "BGP.cluster_list: 244.0.0.1",
			fmt.Sprintf("BGP.next_hop: 10.99.%d.2", other), "BGP.community: (65001,7)", "BGP.large_community: (65001, 7, 8)\n")
		clients[i].AwaitRoute("192.0.2.128/26", "BGP.originator_id: 10.99.0.1", fmt.Sprintf("BGP.next_hop: 10.99.%d.1", i))
		clients[i].AwaitNoRoute(fmt.Sprintf("203.0.113.%d/26", other*64))
	}
	s.changePeer(t, &n, "0", func(p *calc.Peer) { p.NextHop = "Self" })
	clients[0].AwaitRoute("192.0.2.64/26", "BGP.next_hop: 10.99.0.1")
	clients[1].AwaitRoute("192.0.2.0/26", "BGP.next_hop: 10.99.0.2")
	if _, err := clients[1].Ask("disable four"); err != nil {
		t.Fatal(err)
	}
	clients[0].AwaitNoRoute("192.0.2.64/26")
}

// The second router is in another AS: the reflector passes routes on between them as well, and nothing of it changes by the filters of the
// first.
func TestFiltersOfAReflectorAlsoJudgeTheRoutesOfOthersWithoutAReset(t *testing.T) {
	t.Parallel()
	host, hosts := fabric(t)
	clients := [2]*router.BIRD{
		router.StartBIRD(t, hosts[0], t.TempDir(), clientConfig(0, hostAS)), router.StartBIRD(t, hosts[1], t.TempDir(), clientConfig(1, routerAS)),
	}
	other := &routeChanges{soFar: hosts[1].FollowRoutes(unix.RTPROT_BIRD)}
	n := reflector()
	n.Peers["1"] = calc.Peer{Address: addr("10.99.1.2"), AS: routerAS}
	s := run(t, host, "speaker")
	s.apply(t, n)
	const (
		own      = "192.0.2.128/26"
		block    = "192.0.2.64/26 as_path 65001 community (65001,7) large_community (65001, 7, 8)"
		outside  = "203.0.113.64/26 as_path 65001"
		reversed = "192.0.2.0/26 as_path 64512 community (65001,7) large_community (65001, 7, 8)"
	)
	preferred := own + " local_pref 2147482623"
	awaitTable(t, clients[0], preferred, block)
	awaitTable(t, clients[1], own+" as_path 64512", reversed)
	other.await(t, "192.0.2.0/26", "192.0.2.128/26")
	var since []time.Time
	for _, p := range s.status(t) {
		since = append(since, p.Since)
	}
	rest := calc.RouteRule{}
	for _, row := range []struct {
		name  string
		rules []calc.RouteRule
		want  []string
	}{
		{"routes of peers", []calc.RouteRule{{Learned: true}}, []string{preferred}},
		{"none", []calc.RouteRule{rest}, nil},
		{"one prefix", []calc.RouteRule{accepted(within("192.0.2.64/26", 26, 26), calc.RouteChanges{}), rest}, []string{block}},
		{"by community", []calc.RouteRule{{Community: "65001:7"}}, []string{preferred}},
		{"by large community", []calc.RouteRule{{Community: "65001:7:8"}}, []string{preferred}},
		{"by AS path", []calc.RouteRule{{ASPath: []uint32{65001}}}, []string{preferred}},
		{"also outside of the pools", []calc.RouteRule{accepted(rest, calc.RouteChanges{})}, []string{preferred, block, outside}},
		{"changed", []calc.RouteRule{{ASPath: []uint32{65001}, Accept: true, Within: prefix("192.0.2.0/24"), Shortest: 24, Longest: 32,
			Changes: calc.RouteChanges{Prepend: []uint32{7, 8}, Communities: []string{"1:2", "1:2:3"}, Priority: 1000}}},
			[]string{preferred, "192.0.2.64/26 as_path 7 8 65001 local_pref 2147482647 community (65001,7) (1,2) large_community (65001, 7, 8) (1, 2, 3)"}},
		{"no rule", nil, []string{preferred, block}},
	} {
		t.Log(row.name)
		s.changePeer(t, &n, "0", func(p *calc.Peer) { p.Filters = &calc.RouteFilters{Export: row.rules} })
		awaitTable(t, clients[0], row.want...)
		for i, p := range s.status(t) {
			if p.State != "Established" || !p.Since.Equal(since[i]) {
				t.Errorf("the session %s was reset: %+v", p.Name, p)
			}
		}
		if got := other.further(); len(got) > 0 {
			t.Errorf("routes of the other router have changed:\n%s", strings.Join(got, "\n"))
		}
	}
	// For a peer in another AS, GoBGP has put our AS in front.
	s.changePeer(t, &n, "1", func(p *calc.Peer) {
		p.Filters = &calc.RouteFilters{Export: []calc.RouteRule{{Learned: true, Within: prefix("192.0.2.0/26"), Shortest: 26, Longest: 26, Accept: true,
			Changes: calc.RouteChanges{Prepend: []uint32{7}}}, rest}}
	})
	awaitTable(t, clients[1], "192.0.2.0/26 as_path 64512 7 64512 community (65001,7) large_community (65001, 7, 8)")
	n.ClusterID, n.Transit = netip.Addr{}, nil
	s.changePeer(t, &n, "0", func(p *calc.Peer) { p.Client, p.Filters = false, nil })
	awaitTable(t, clients[0], preferred)
}

// Two hosts are clients of a reflector between them.
func TestSpeakersAreClientsOfAReflector(t *testing.T) {
	t.Parallel()
	reflectors := map[string]func(t *testing.T, on *lab.Host){
		"of BIRD": func(t *testing.T, on *lab.Host) {
			config := "router id 10.99.0.1;\nprotocol device { }\n"
			for i := range 2 {
				config += fmt.Sprintf("protocol bgp c%[1]d { local 10.99.%[1]d.1 as %[2]d; neighbor 10.99.%[1]d.2 as %[2]d; rr client; rr cluster id 244.0.0.1; "+
					"ipv4 { import all; export all; }; }\n", i, hostAS)
			}
			router.StartBIRD(t, on, t.TempDir(), config)
		},
		"of ours": func(t *testing.T, on *lab.Host) {
			n := reflector()
			n.Paths = nil
			run(t, on, "speaker").apply(t, n)
		},
	}
	for name, start := range reflectors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, hosts := fabric(t)
			start(t, host)
			var speakers [2]*process
			for i, on := range hosts {
				speakers[i] = run(t, on, "speaker")
				speakers[i].apply(t, calc.BGP{AS: hostAS, RouterID: addr(fmt.Sprintf("10.99.%d.2", i)),
					Peers: map[string]calc.Peer{"reflector": {Address: addr(fmt.Sprintf("10.99.%d.1", i)), AS: hostAS, Passive: name == "of ours"}},
					Paths: map[netip.Prefix]calc.Path{prefix(fmt.Sprintf("192.0.2.%d/26", i*64)): {Reason: "block"}},
				})
			}
			for i, other := range []int{1, 0} {
				speakers[i].awaitLearned(t, routes{}, true, fmt.Sprintf("192.0.2.%d/26 [10.99.%d.2", other*64, other))
			}
		})
	}
}

// The reflector waits until its clients can have connected again. If it told one of them that it has sent all its routes before the other
// has sent its own, the client would drop routes that are in use.
func TestClientsKeepTheirRoutesWhileAReflectorRestarts(t *testing.T) {
	t.Parallel()
	host, hosts := fabric(t)
	var changes [2]*routeChanges
	for i, on := range hosts {
		router.StartBIRD(t, on, t.TempDir(), clientConfig(i, hostAS))
		changes[i] = &routeChanges{soFar: on.FollowRoutes(unix.RTPROT_BIRD)}
	}
	s := run(t, host, "speaker")
	s.apply(t, reflector())
	for i, other := range []int{1, 0} {
		changes[i].await(t, fmt.Sprintf("192.0.2.%d/26", other*64), "192.0.2.128/26")
	}
	s.waitUp(t)
	s.Kill()
	host.RemoveAddress("eth1", "10.99.1.1/24")
	s = run(t, host, "restarted speaker")
	s.apply(t, reflector())
	lab.Await(t, func() error {
		if st := s.status(t); st[0].State != "Established" {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	lab.LetPass(3 * time.Second) // the second client is late
	host.Up("eth1", "10.99.1.1/24")
	s.waitUp(t)
	for i, c := range changes {
		if got := c.further(); len(got) > 0 {
			t.Errorf("routes of client %d have changed:\n%s", i, strings.Join(got, "\n"))
		}
	}
}

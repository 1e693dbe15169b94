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

// routes holds the routes that a speaker has learned so far.
type routes map[netip.Prefix][]netip.Addr

// String returns a line for each route: the prefix and its next hops.
func (r routes) String() string {
	var lines []string
	for prefix, hops := range r {
		lines = append(lines, strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(prefix, " ", hops), "["), "]"))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// awaitLearned applies changes until the routes equal want and the speaker reports the wanted value of Complete.
func (p *process) awaitLearned(t *testing.T, r routes, complete bool, want ...string) {
	t.Helper()
	lab.Await(t, func() error {
		a := p.ask(t, request{Learned: true})
		maps.Copy(r, a.Learned)
		for prefix, hops := range a.Learned {
			if len(hops) == 0 {
				t.Logf("%v is withdrawn", prefix)
			}
		}
		maps.DeleteFunc(r, func(_ netip.Prefix, hops []netip.Addr) bool { return len(hops) == 0 })
		if got := r.String(); got != strings.Join(want, "\n") {
			return fmt.Errorf("learned:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
		}
		if a.Complete != complete {
			return fmt.Errorf("complete is %v", a.Complete)
		}
		return nil
	})
}

// fabric is a host with two routers, each on a cable of its own.
func fabric(t *testing.T) (host *lab.Host, routers [2]*lab.Host) {
	host = lab.NewHost(t)
	for i := range routers {
		routers[i] = lab.NewHost(t)
		dev := fmt.Sprint("eth", i)
		lab.Cable(host, dev, routers[i], "eth0")
		host.Up(dev, fmt.Sprintf("10.99.%d.1/24", i), fmt.Sprintf("fd99:%d::1/64", i))
		routers[i].Up("eth0", fmt.Sprintf("10.99.%d.2/24", i), fmt.Sprintf("fd99:%d::2/64", i))
	}
	return host, routers
}

// leafConfig configures a router of the fabric. Both routers announce the same networks.
func leafConfig(i int) string {
	return fmt.Sprintf(`
router id 10.99.%[1]d.2;
protocol device { }
protocol static four { ipv4; route 203.0.113.0/24 blackhole; }
protocol static six { ipv6; route 2001:db8:1::/48 blackhole; }
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
`, i, routerAS, hostAS)
}

func TestRoutesOfTwoRoutersAreOneRouteWithTwoNextHops(t *testing.T) {
	t.Parallel()
	host, hosts := fabric(t)
	n := calc.BGP{AS: hostAS, RouterID: addr("10.99.0.1"), Peers: map[string]calc.Peer{}}
	var leaves [2]*router.BIRD
	for i, on := range hosts {
		leaves[i] = router.StartBIRD(t, on, t.TempDir(), leafConfig(i))
		for _, address := range []string{fmt.Sprintf("10.99.%d.2", i), fmt.Sprintf("fd99:%d::2", i)} {
			n.Peers[address] = calc.Peer{Object: address, Address: addr(address), AS: routerAS}
		}
	}
	s := run(t, host, "speaker")
	s.apply(t, n)
	learned := routes{}
	s.awaitLearned(t, learned, true,
		"2001:db8:1::/48 [fd99::2 fd99:1::2", "203.0.113.0/24 [10.99.0.2 10.99.1.2")

	for _, command := range []string{"disable four", "disable six"} { // one router withdraws the route
		if _, err := leaves[0].Ask(command); err != nil {
			t.Fatal(err)
		}
	}
	s.awaitLearned(t, learned, true, "2001:db8:1::/48 [fd99:1::2", "203.0.113.0/24 [10.99.1.2")
	if _, err := leaves[1].Ask("disable session4"); err != nil {
		t.Fatal(err)
	}
	s.awaitLearned(t, learned, false, "2001:db8:1::/48 [fd99:1::2")

	delete(n.Peers, "fd99:1::2")
	delete(n.Peers, "10.99.1.2")
	s.apply(t, n)
	s.awaitLearned(t, learned, true)
}

// meshNode returns the BGP configuration of a node in a mesh of two.
func meshNode(own, peer, block string, passive bool) calc.BGP {
	return calc.BGP{
		AS: hostAS, RouterID: addr(own), V4: prefix(own + "/24"),
		Peers: map[string]calc.Peer{"mesh": {Node: "other", Address: addr(peer), AS: hostAS, Source: addr(own), Passive: passive}},
		Paths: map[netip.Prefix]calc.Path{prefix(block): {Reason: "block"}},
	}
}

// Two agents connect again after each restart of either side: the passive side and the connecting side.
func TestTwoNodesOfAMeshLearnFromEachOther(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	nodes := [2]calc.BGP{
		meshNode(host4, router4, "192.0.2.0/26", true), meshNode(router4, host4, "192.0.2.64/26", false),
	}
	blocks := [2]string{"192.0.2.64/26 [" + router4, "192.0.2.0/26 [" + host4}
	on := [2]*lab.Host{l.host, l.router}
	var speakers [2]*process
	var learned [2]routes
	for i := range speakers {
		speakers[i], learned[i] = run(t, on[i], "speaker"), routes{}
		speakers[i].apply(t, nodes[i])
	}
	for i, s := range speakers {
		s.awaitLearned(t, learned[i], true, blocks[i])
	}
	for round := range 2 {
		restarted := round % 2
		speakers[restarted].Kill()
		speakers[restarted], learned[restarted] = run(t, on[restarted], "restarted speaker"), routes{}
		began := time.Now()
		speakers[restarted].apply(t, nodes[restarted])
		for i, s := range speakers {
			s.awaitLearned(t, learned[i], true, blocks[i])
		}
		t.Logf("restart of speaker %d: the mesh is back after %v", restarted, time.Since(began).Round(100*time.Millisecond))
	}
}

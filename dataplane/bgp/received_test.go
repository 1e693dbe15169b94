package bgp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// receivedText is a line for each received route.
func receivedText(a answer) string {
	var lines []string
	number := func(n *bgp.Number) string {
		if n == nil {
			return "-"
		}
		return fmt.Sprint(n.Value)
	}
	for _, r := range a.Received {
		lines = append(lines, fmt.Sprintf("%v from %s at %v via %v path [%s] communities %v pref %s med %s best %v: %s", r.Prefix, r.Peer,
			r.Neighbour, r.NextHop, r.ASPath, r.Communities, number(r.LocalPref), number(r.MED), r.Best, r.Unused))
	}
	return strings.Join(lines, "\n")
}

// Two routers send the same network, one with a longer path. One of them also sends a route that has been at this node before.
func TestEveryReceivedRouteIsListedWithItsAttributes(t *testing.T) {
	t.Parallel()
	host, hosts := fabric(t)
	n := calc.BGP{AS: hostAS, RouterID: addr("10.99.0.1"), Peers: map[string]calc.Peer{}}
	export := [2]string{
		`bgp_community.add((65001,7)); bgp_large_community.add((65001,1,2)); bgp_med = 5;`,
		`bgp_med = 0; bgp_path.prepend(65009); if net = 198.51.100.0/24 then bgp_path.prepend(64512);`,
	}
	for i, on := range hosts {
		four, _, _ := strings.Cut(leafConfig(i), "protocol bgp session6")
		four = strings.Replace(four, "export where source = RTS_STATIC;", "export filter { if source != RTS_STATIC then reject; "+export[i]+" accept; };", 1)
		if i == 1 {
			four = strings.Replace(four, "route 203.0.113.0/24 blackhole;", "route 203.0.113.0/24 blackhole; route 198.51.100.0/24 blackhole;", 1)
		}
		router.StartBIRD(t, on, t.TempDir(), four)
		address := fmt.Sprintf("10.99.%d.2", i)
		n.Peers[address] = calc.Peer{Object: fmt.Sprint("leaf", i), Address: addr(address), AS: routerAS}
	}
	s := run(t, host, "speaker")
	s.apply(t, n)
	want := strings.Join([]string{
		"198.51.100.0/24 from leaf1 at 10.99.1.2 via 10.99.1.2 path [65001 64512 65009] communities [] pref - med 0 best false: " +
			"its AS path has this node's AS 64512: give each node an asNumber of its own, or set numAllowedLocalASNumbers in the BGPPeer",
		"203.0.113.0/24 from leaf0 at 10.99.0.2 via 10.99.0.2 path [65001] communities [65001:7 65001:1:2] pref - med 5 best true: ",
		"203.0.113.0/24 from leaf1 at 10.99.1.2 via 10.99.1.2 path [65001 65009] communities [] pref - med 0 best false: " +
			"another path is better: that of leaf0 at 10.99.0.2",
	}, "\n")
	lab.Await(t, func() error {
		a := s.ask(t, request{Received: true})
		if diff := cmp.Diff(want, receivedText(a)); diff != "" || a.Error != "" {
			return fmt.Errorf("%s\nreceived (-want +got):\n%s", a.Error, diff)
		}
		return nil
	})
}

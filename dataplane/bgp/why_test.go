package bgp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

// A real router refuses a session, or nothing answers, and status says why.
func TestStatusSaysWhyASessionIsNotEstablished(t *testing.T) {
	t.Parallel()
	plain := birdConfig(routerAS)
	for _, c := range []struct {
		name, config string
		change       func(*calc.BGP)
		want         []string // parts of Why
	}{
		{"another AS than the router's", plain, func(n *calc.BGP) { changePeer(n, func(p *calc.Peer) { p.AS = routerAS + 1 }) },
			[]string{"bad peer AS", "correct asNumber"}},
		{"another AS than the router expects", strings.ReplaceAll(plain, fmt.Sprint("as ", hostAS), "as 64999"), func(*calc.BGP) {},
			[]string{"the peer refused this node's OPEN message: does it expect another AS number"}},
		{"the same router id twice", strings.Replace(birdConfig(hostAS), "router id "+router4, "router id "+host4, 1),
			func(n *calc.BGP) { changePeer(n, func(p *calc.Peer) { p.AS = hostAS }) }, []string{"bad router id", "give every node and router its own"}},
		{"more routes than the router takes", strings.Replace(plain, "ipv4 { import all;", "ipv4 { import all; import limit 1 action restart;", 1),
			func(n *calc.BGP) { n.Paths[prefix("192.0.2.128/26")] = calc.Path{Reason: "block"} }, []string{"the peer ended the session", "more routes than the limit of prefixes allows"}},
		{"nothing listens on the port", strings.ReplaceAll(plain, "graceful restart on;", "graceful restart on; passive on;"), func(n *calc.BGP) { changePeer(n, func(p *calc.Peer) { p.Port = 1790 }) },
			[]string{"connection refused", "felix connects to port 1790 of the peer every few seconds"}},
		{"a passive end", "router id 10.99.0.2;\nprotocol device { }\n", func(n *calc.BGP) { changePeer(n, func(p *calc.Peer) { p.Passive = true }) },
			[]string{"felix waits for the peer to connect: this node is the passive end"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newPair(t)
			router.StartBIRD(t, l.router, t.TempDir(), c.config)
			s := run(t, l.host, "speaker")
			n := node(routerAS)
			delete(n.Peers, "v6")
			c.change(&n)
			s.apply(t, n)
			lab.Await(t, func() error {
				st := s.status(t)[0]
				for _, part := range c.want {
					if !strings.Contains(st.Why, part) {
						return fmt.Errorf("state %s: %q does not contain %q", st.State, st.Why, part)
					}
				}
				return nil
			})
		})
	}
}

func changePeer(n *calc.BGP, change func(*calc.Peer)) {
	p := n.Peers["v4"]
	change(&p)
	n.Peers["v4"] = p
}

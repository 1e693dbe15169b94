package bgp_test

import (
	"net/netip"
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab/router"
)

// A draining node is the last choice of its peers, and no session ends.
func TestRoutesOfADrainingNodeAreTheLastChoice(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	b := router.StartBIRD(t, l.router, t.TempDir(), birdConfig(hostAS))
	s := run(t, l.host, "speaker")
	s.apply(t, node(hostAS))
	s.waitUp(t)
	before := s.status(t)[0].Since
	b.AwaitRoute(block4, "BGP.local_pref: 2147482623")

	draining := node(hostAS)
	draining.Paths = map[netip.Prefix]calc.Path{prefix(block4): {Communities: []string{"64512:7", "65535:0"}, Reason: "block"}}
	s.apply(t, draining)
	b.AwaitRoute(block4, "BGP.local_pref: 0\n", "BGP.community: (64512,7) (65535,0)")
	b.AwaitNoRoute(block6)

	draining.Paths = map[netip.Prefix]calc.Path{} // drained
	s.apply(t, draining)
	b.AwaitNoRoute(block4)
	s.apply(t, node(hostAS))
	b.AwaitRoute(block4, "BGP.local_pref: 2147482623")
	b.AwaitRoute(block6)
	if st := s.status(t)[0]; st.State != "Established" || st.Since != before {
		t.Errorf("the session ended: %+v", st)
	}
}

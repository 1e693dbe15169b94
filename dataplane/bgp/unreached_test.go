package bgp

import (
	"net/netip"
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
)

// A peer gets no session as long as the kernel lacks the route to it. A session that is up stays, because a route may come back soon; one
// that is not up goes.
func TestAnUnreachedPeerGetsNoSession(t *testing.T) {
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	unreached := with(func(n *calc.BGP) { n.Unreached = map[string]string{"Global_10_0_0_9": "no route"} })
	expectPeer := func(why, state, cause string) {
		t.Helper()
		if p := s.Status()[0]; p.State != state || p.Why != cause {
			t.Errorf("%s: state %s, because %q", why, p.State, p.Why)
		}
	}
	calls, failed := apply(t, s, f, unreached)
	expect(t, "at the start", calls+failed, `start AS 64512 id 10.0.0.1 port 179
	policy export
	policy import
	announce 192.0.2.0/26 64512:1
	announce 2001:db8::40/122
	add peer fd00::9 AS 65000`)
	expectPeer("at the start", "Failed", "no route")

	calls, failed = apply(t, s, f, node())
	expect(t, "with the route", calls+failed, "add peer 10.0.0.9 AS 65000")
	s.observe(event{Address: addr("10.0.0.9"), Up: true})
	f.states[addr("10.0.0.9")] = peerState{State: established, Takes4: true}
	calls, failed = apply(t, s, f, unreached)
	expect(t, "an established session without its route", calls+failed, "")
	expectPeer("an established session without its route", established, "the session keeps its former settings: no route")

	s.observe(event{Address: addr("10.0.0.9")})
	calls, failed = apply(t, s, f, unreached)
	expect(t, "a lost session without its route", calls+failed, "delete peer 10.0.0.9")
	expectPeer("a lost session without its route", "Failed", "no route")
	calls, failed = apply(t, s, f, node())
	expect(t, "the route is back", calls+failed, "add peer 10.0.0.9 AS 65000")
}

// The interface to its gateway is the interface to a peer.
func TestALostCarrierEndsTheSessionBehindAGateway(t *testing.T) {
	lab.Enter(t) // no other interface leads to the gateway
	f := newFake()
	s := newSpeaker(quiet(), Options{}, f)
	apply(t, s, f, with(func(n *calc.BGP) { setPeer(n, func(p *calc.Peer) { p.Gateway = addr("192.0.2.1") }) }))
	s.observe(event{Address: addr("10.0.0.9"), Up: true})
	s.carrierLost("eth0", []netip.Prefix{prefix("10.0.0.0/24")})
	expect(t, "the network of the peer's address", f.take(), "")
	s.carrierLost("eth1", []netip.Prefix{prefix("192.0.2.0/24")})
	expect(t, "the network of the gateway", f.take(), "reset 10.0.0.9: interface eth1 has lost its carrier")
}

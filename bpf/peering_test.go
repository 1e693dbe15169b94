package bpf

import (
	"testing"

	"github.com/margay-project/margay/bpf/layout"
)

// A workload that is a BGP peer reaches the speaker at the address for that, if its policy allows it, and nothing else of this host.
func TestAPeeringWorkloadReachesOnlyTheSpeaker(t *testing.T) {
	const peering = "172.16.0.9"
	r := newRouter(t)
	must(t, r.shared.Locals.Put(Address(addr(peering)), layout.LocalPeering))
	peer := r.workload(r.v1, 5, 0, r.allowAll(), alice)
	peer.PeeringPort = 179
	r.iface(peer)
	r.workload(r.v2, 6, 0, r.allowAll(), carol)
	syn := func(from, to string, port uint16) []byte { return tcp(from, to, 4000, port, "S", 1, 0) }
	for _, c := range []struct {
		name   string
		from   uint32
		packet []byte
		want   Reason
	}{
		{"another port", r.v1, syn(alice, peering, 180), DropToHost},
		{"another address", r.v1, syn(alice, here, 179), DropToHost},
		{"UDP", r.v1, udp(alice, peering, 4000, 179), DropToHost},
		{"from the port", r.v1, tcp(alice, here, 179, 4000, "S", 1, 0), DropToHost},
		{"another workload", r.v2, syn(carol, peering, 179), DropToHost},
		{"a forged source", r.v2, syn(alice, peering, 179), DropSource},
		{"the speaker", r.v1, syn(alice, peering, 179), PassPolicy},
	} {
		if o := r.in(c.from, c.packet); o.Reason != c.want {
			t.Errorf("%s: %v, want %v", c.name, o.Reason, c.want)
		}
	}
	answer := func() []byte { return tcp(peering, alice, 179, 4000, "SA", 1, 2) }
	question := func() []byte { return tcp(alice, peering, 4000, 179, "A", 2, 2) }
	r.want(r.out(r.v1, answer()), PassFlow)
	r.want(r.in(r.v1, question()), PassFlow)

	r.shared.AdvanceEpoch() // judged again, in both directions
	r.want(r.out(r.v1, answer()), PassPolicy)
	r.shared.AdvanceEpoch()
	r.want(r.in(r.v1, question()), PassPolicy)

	denied := peer
	denied.Mask[layout.StageNormalOut] = r.denyAll()
	r.iface(denied)
	r.want(r.in(r.v1, syn(alice, peering, 179)), DropPolicy)
	peer.PeeringPort = 0 // it is no peer any more: its connection ends in both directions
	r.iface(peer)
	r.shared.AdvanceEpoch()
	r.want(r.in(r.v1, question()), DropToHost)
	r.want(r.out(r.v1, answer()), DropToHost)
}

package bpf

import (
	"testing"

	"github.com/margay-project/margay/bpf/layout"
)

func TestAConnectionWithoutAShareHasItsTime(t *testing.T) {
	r := newRouter(t)
	allow := r.allowAll()
	r.workload(r.v1, 5, allow, allow, alice)
	r.shared.Settings.Share = 1
	for _, port := range []uint16{9, 10} {
		r.want(r.in(r.v1, tcp(alice, bob, port, 80, "S", 1, 0)), PassPolicy)
		r.want(r.out(r.v1, tcp(bob, alice, 80, port, "SA", 7, 2)), PassFlow)
		r.want(r.in(r.v1, tcp(alice, bob, port, 80, "A", 2, 8)), PassFlow)
	}
	proven := 0
	for _, c := range r.connections() {
		if c.State != layout.FlowTCPEstablished {
			t.Errorf("%v: state %d: its end would come early", c.Opener, c.State)
		}
		if c.Proven {
			proven++
		}
	}
	if proven != 1 {
		t.Errorf("%d proven, want 1", proven)
	}
}

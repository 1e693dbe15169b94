package bpf

import "testing"

const (
	alice  = "10.9.0.1" // the workload of the tests
	bob    = "192.0.2.5"
	alice6 = "2001:db8:9::1"
	bob6   = "2001:db8:5::5"
)

func TestEgressOfWorkloadIsJudgedByItsRules(t *testing.T) {
	r := newRig(t)
	out := r.mask(
		rule{id: 11, action: ActionDeny, dest: "192.0.2.66"},
		rule{id: 12, action: ActionAllow, dest: "192.0.2.0/24", service: ServiceTCP + 80 + 1},
		rule{id: 13, action: ActionDeny},
	)
	i := r.workload(1, 5, 0, out, alice)
	i.Flags |= IfaceToHost
	r.iface(i)
	o := r.in(1, tcp(alice, bob, 4000, 80, "S", 1, 0))
	r.want(o, PassPolicy)
	if o.Rule != 12 {
		t.Errorf("rule %d decided, want 12", o.Rule)
	}
	o = r.in(1, tcp(alice, bob, 4000, 81, "S", 1, 0))
	if o.Allowed || o.Rule != 13 {
		t.Errorf("%+v, want a denial by 13", o)
	}
	o = r.in(1, tcp(alice, "192.0.2.66", 4000, 80, "S", 1, 0))
	if o.Allowed || o.Rule != 11 {
		t.Errorf("%+v, want a denial by 11", o)
	}
	r.want(r.in(1, tcp(bob, alice, 4000, 80, "S", 1, 0)), DropSource)
}

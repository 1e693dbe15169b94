package bpf

import (
	"slices"
	"testing"

	"github.com/margay-project/margay/bpf/layout"
)

// resizing is a router whose tables of connections change their size.
type resizing struct{ *router }

// reopen loads another generation, as the agent does for a new pair of tables, and returns the one before.
func (r *resizing) reopen() (before *rig) {
	r.Helper()
	g, err := LoadTraced(r.shared, smallSizes())
	must(r, err)
	r.TB.(*testing.T).Cleanup(func() { must(r, g.Close()) })
	next := &rig{TB: r.TB, Generation: g, shared: r.shared, nextVector: 1, dir: r.dir}
	next.workload(r.v1, 5, next.denyAll(), next.allowAll(), alice)
	before, r.rig = r.rig, next
	return before
}

// prove opens connections from these ports and proves them.
func (r *resizing) prove(ports ...uint16) {
	r.Helper()
	for _, port := range ports {
		r.in(r.v1, udp(alice, bob, port, 53))
		r.out(r.v1, udp(bob, alice, 53, port))
		r.in(r.v1, udp(alice, bob, port, 53))
	}
}

// answered says of each port that an answer passes, which only a connection lets it.
func (r *resizing) answered(ports ...uint16) {
	r.Helper()
	for _, port := range ports {
		r.want(r.out(r.v1, udp(bob, alice, 53, port)), PassFlow)
	}
}

func ports(first, n uint16) (list []uint16) {
	for i := range n {
		list = append(list, first+i)
	}
	return list
}

func TestConnectionsMoveToATableOfAnotherSize(t *testing.T) {
	r := &resizing{outbound(t)}
	open := []uint16{77}
	r.in(r.v1, udp(alice, bob, 77, 53)) // not proven
	for i, size := range []uint32{2048, 512, 300, 4096} {
		first := uint16(1000 * (i + 1))
		r.prove(ports(first, 5)...)
		open = append(open, ports(first, 5)...)
		must(t, r.shared.ResizeFlows(SharedSizes{Flows: size, NewFlows: 1024}))
		old := r.reopen()
		// Old and new generations see and make the same connections until the last link has been swapped.
		r.answered(open...)
		r.want(r.in(r.v1, udp(alice, bob, first+100, 53)), PassPolicy)
		old.want(old.in(r.v1, udp(alice, bob, first+101, 53)), PassPolicy)
		for _, port := range append(open, first+100) {
			old.want(old.out(r.v1, udp(bob, alice, 53, port)), PassFlow)
		}
		for _, port := range []uint16{200, 201, 202} {
			old.in(r.v1, udp(alice, bob, first+port, 53))
			old.out(r.v1, udp(bob, alice, 53, first+port))
			old.want(old.in(r.v1, udp(alice, bob, first+port, 53)), PassFlow)
		}
		open = append(open, first+100, first+101, first+200, first+201, first+202)
		r.answered(open...)
		if err := r.shared.ResizeFlows(SharedSizes{Flows: 9999, NewFlows: 9999}); err == nil {
			t.Error("a second change of size began in the first")
		}

		r.shared.DrainFlows()
		r.answered(open[:4]...) // their packets move them
		r.prove(first + 300)
		open = append(open, first+300)
		drained, err := r.Drain()
		must(t, err)
		if drained.Left != 0 || drained.Moved != uint64(len(open)-5) {
			t.Errorf("%+v, want %d moved", drained, len(open)-5)
		}
		must(t, r.shared.DropOldFlows())
		r.answered(open...)
		r.reopen()
		r.answered(open...)
		if s := r.shared.FlowSizes(); s.Flows != size || r.shared.Resizing() != FlowsOfOneSize {
			t.Errorf("%+v, step %d", s, r.shared.Resizing())
		}
		if n := len(r.connections()); n != len(open) {
			t.Errorf("%d connections, want %d", n, len(open))
		}
	}
}

// The agent asks for no table that is too small; but connections may be opened faster than they move.
func TestConnectionsWithoutRoomStayAndWork(t *testing.T) {
	r := &resizing{outbound(t)}
	open := ports(1, 40)
	r.prove(open...)
	must(t, r.shared.ResizeFlows(SharedSizes{Flows: 16, NewFlows: 1024}))
	r.reopen()
	r.shared.DrainFlows()
	drained, err := r.Drain()
	must(t, err)
	if drained.Left == 0 || drained.Left+drained.Moved != 40 {
		t.Errorf("%+v", drained)
	}
	r.answered(open...)
	proven := 0
	for _, c := range r.connections() {
		if c.Proven {
			proven++
		}
	}
	if proven != 40 {
		t.Errorf("%d of 40 are proven", proven)
	}
	for _, port := range ports(1, 40) { // they end
		key := r.keyOf(port)
		must(t, r.shared.DeleteConnection(key))
	}
	if drained, err = r.Drain(); err != nil || drained.Left != 0 {
		t.Errorf("%+v, %v", drained, err)
	}
}

func (r *resizing) keyOf(port uint16) layout.FlowKey {
	r.Helper()
	all := r.connections()
	i := slices.IndexFunc(all, func(c Connection) bool { return c.Opener.Port() == port })
	if i < 0 {
		r.Fatalf("no connection from port %d", port)
	}
	return all[i].Key
}

func TestAChangeOfSizeGoesOnAfterARestart(t *testing.T) {
	r := &resizing{outbound(t)}
	open := ports(1, 5)
	r.prove(open...)
	restart := func(want FlowResize) {
		t.Helper()
		shared, err := OpenShared(r.dir, SharedSizes{Flows: 9999, NewFlows: 9999})
		must(t, err)
		t.Cleanup(func() { must(t, shared.Close()) })
		if got := shared.Resizing(); got != want {
			t.Fatalf("step %d after a restart, want %d", got, want)
		}
		r.shared = shared
		r.rig.shared = shared
		r.reopen()
		r.answered(open...)
	}
	restart(FlowsOfOneSize)
	must(t, r.shared.ResizeFlows(SharedSizes{Flows: 64, NewFlows: 64}))
	restart(FlowsSwapping)
	r.shared.DrainFlows()
	restart(FlowsDraining)
	drained, err := r.Drain()
	must(t, err)
	if drained.Left != 0 {
		t.Errorf("%+v", drained)
	}
	must(t, r.shared.DropOldFlows())
	restart(FlowsOfOneSize)
	if s := r.shared.FlowSizes(); s.Flows != 64 {
		t.Errorf("%+v", s)
	}
}

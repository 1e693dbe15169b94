package bpf

import (
	"slices"
	"testing"

	"github.com/margay-project/margay/bpf/layout"
)

func TestAWorkloadDoesNotFollowAnAddressToTheHost(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, r.denyAll(), r.allowAll(), alice, alice6)
	for _, c := range []struct{ from, to string }{{alice, bob}, {alice6, bob6}} {
		r.name = c.to
		question := udp(c.from, c.to, 9, 53)
		r.want(r.in(r.v1, question), PassPolicy)
		must(t, r.shared.Locals.Put(Address(addr(c.to)), 1)) // a service address moves to this host
		r.shared.AdvanceEpoch()
		r.want(r.in(r.v1, question), DropToHost)
		r.want(r.in(r.v1, question), DropToHost)
	}
}

func TestTheStageFollowsAnAddressThatMoves(t *testing.T) {
	r := newRouter(t)
	r.host(r.up, map[int]uint32{
		layout.StageNormalIn: r.allowAll(), layout.StageNormalOut: r.denyAll(), layout.StageForwardIn: r.denyAll(), layout.StageForwardOut: r.denyAll()})
	moving := Address(addr(alice)) // was this host's, and is a workload's now
	must(t, r.shared.Locals.Put(moving, 1))
	r.want(r.in(r.up, udp(bob, alice, 9, 53)), PassPolicy)
	must(t, r.shared.Locals.Delete(moving))
	r.shared.AdvanceEpoch()
	r.want(r.in(r.up, udp(bob, alice, 9, 53)), DropRevoked)
	r.want(r.out(r.up, udp(alice, bob, 53, 9)), DropRevoked) // the flow has ended, not only its one half
}

func TestALegIsJudgedAgainAtItsOwnStage(t *testing.T) {
	r := newRouter(t)
	r.host(r.up, map[int]uint32{
		layout.StageNormalIn: r.allowAll(), layout.StageNormalOut: r.denyAll(), layout.StageForwardIn: r.allowAll(), layout.StageForwardOut: r.denyAll()})
	for _, to := range []string{here, alice} {
		r.want(r.in(r.up, udp(bob, to, 9, 53)), PassPolicy)
		r.shared.AdvanceEpoch()
		r.want(r.in(r.up, udp(bob, to, 9, 53)), PassPolicy)
		r.want(r.in(r.up, udp(bob, to, 9, 53)), PassFlow)
	}
}

// A program that is interrupted between the two would stamp an approval by the former policy with the new epoch.
func TestTheEpochIsReadBeforeThePolicyOfTheInterface(t *testing.T) {
	spec, err := loadProgram()
	must(t, err)
	for _, name := range []string{"ingress", "egress"} {
		var order []string
		for _, ins := range spec.Programs[name].Instructions {
			if ref := ins.Reference(); ins.IsLoadFromMap() && (ref == "epoch" || ref == "interfaces") && !slices.Contains(order, ref) {
				order = append(order, ref)
			}
		}
		if !slices.Equal(order, []string{"epoch", "interfaces"}) {
			t.Errorf("%s reads %v", name, order)
		}
	}
}

// A machine moves to this host while the host speaks to it: an answer of the machine comes before the host sends again.
func TestAnAnswerOfAMachineThatHasMovedHereIsForTheHost(t *testing.T) {
	r := newRouter(t)
	r.host(r.up, map[int]uint32{
		layout.StageNormalIn: r.denyAll(), layout.StageNormalOut: r.allowAll(), layout.StageForwardIn: r.denyAll(), layout.StageForwardOut: r.allowAll()})
	r.workload(r.v1, 5, r.denyAll(), r.allowAll(), alice, alice6)
	for _, c := range [][3]string{{here, alice, carol}, {here6, alice6, carol6}} {
		r.name = c[1]
		r.want(r.born(r.up, udp(c[0], c[1], 9, 53)), PassPolicy)
		r.want(r.in(r.v1, udp(c[1], c[0], 53, 9)), PassFromHost)
		r.want(r.out(r.up, udp(c[2], c[1], 9, 53)), PassPolicy) // policy decides about packets that this host forwarded
		r.want(r.in(r.v1, udp(c[1], c[2], 53, 9)), DropPolicy)
	}
}

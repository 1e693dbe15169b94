package bpf

import (
	"testing"

	"github.com/margay-project/margay/bpf/layout"
)

// host makes an interface the host's, with masks for some stages.
func (r *rig) host(ifindex uint32, masks map[int]uint32) {
	r.Helper()
	i := layout.Iface{Endpoint: uint64(100 + ifindex), Ifindex: ifindex}
	for stage, mask := range masks {
		i.Mask[stage] = mask
	}
	r.iface(i)
}

func TestHostInterfaceWithoutPolicyIsOpen(t *testing.T) {
	r := newRouter(t)
	r.host(r.up, nil)
	malformed := udp(bob, here, 1, 2)
	malformed[14] = 0x44
	for _, c := range []struct {
		packet []byte
		want   Reason
	}{
		{udp(bob, here, 1, 2), PassNoPolicy},
		{udp(bob, alice, 1, 2), PassNoPolicy},
		{append(ethernet([6]byte{2}, 0x88cc), make([]byte, 50)...), PassNotIP},
		{arp(bob, here), PassNeighbour},
		{malformed, PassUnparsed},
	} {
		r.want(r.in(r.up, c.packet), c.want)
		r.want(r.out(r.up, c.packet), c.want)
	}
	if n := len(r.connections()); n != 0 {
		t.Errorf("%d connections tracked for nothing", n)
	}
}

func TestHostInterfaceWithPolicyDropsUnreadablePackets(t *testing.T) {
	r := newRouter(t)
	r.host(r.up, map[int]uint32{layout.StageNormalIn: r.allowAll()})
	malformed := udp(bob, here, 1, 2)
	malformed[14] = 0x44
	r.want(r.in(r.up, malformed), DropMalformed)
	r.want(r.in(r.up, append(ethernet([6]byte{2}, 0x88cc), make([]byte, 50)...)), PassNotIP)
	fragment := newFrame(bob, here, 17, make([]byte, 64))
	fragment.offset = 10
	r.want(r.in(r.up, fragment.bytes()), DropFragment)
}

func TestStagesOfAHostInterface(t *testing.T) {
	r := newRouter(t)
	mask := func(id uint64) uint32 { return r.mask(rule{id: id, action: layout.ActionAllow}) }
	r.host(r.up, map[int]uint32{
		layout.StageNormalIn: mask(1), layout.StageNormalOut: mask(2), layout.StageForwardIn: mask(3), layout.StageForwardOut: mask(4)})
	for _, c := range []struct {
		name  string
		run   Run
		rule  uint64
		stage int
	}{
		{"to this host", Run{Hook: Ingress, Packet: udp(bob, here, 1, 2)}, 1, layout.StageNormalIn},
		{"to this host, IPv6", Run{Hook: Ingress, Packet: udp(bob6, here6, 1, 2)}, 1, layout.StageNormalIn},
		{"broadcast", Run{Hook: Ingress, Packet: udp(bob, "255.255.255.255", 1, 2)}, 1, layout.StageNormalIn},
		{"broadcast of the network", Run{Hook: Ingress, Packet: udp(bob, "172.16.0.255", 1, 2)}, 1, layout.StageNormalIn},
		{"multicast", Run{Hook: Ingress, Packet: udp(bob, "224.0.0.9", 1, 2)}, 1, layout.StageNormalIn},
		{"multicast, IPv6", Run{Hook: Ingress, Packet: udp(bob6, "ff02::9", 1, 2)}, 1, layout.StageNormalIn},
		{"to a workload", Run{Hook: Ingress, Packet: udp(bob, alice, 1, 2)}, 3, layout.StageForwardIn},
		{"to a workload, IPv6", Run{Hook: Ingress, Packet: udp(bob6, alice6, 1, 2)}, 3, layout.StageForwardIn},
		{"from this host", Run{Hook: Egress, Packet: udp(here, bob, 3, 4)}, 2, layout.StageNormalOut},
		{"from a workload", Run{Hook: Egress, Inner: r.v1, Packet: udp(alice, bob, 3, 4)}, 4, layout.StageForwardOut},
	} {
		r.name = c.name
		c.run.Ifindex = r.up
		if o := r.run(c.run); o.Rule != c.rule || o.Stage != c.stage {
			t.Errorf("%s: %+v, want rule %d", c.name, o, c.rule)
		}
	}
}

func TestStageOfApprovalHolds(t *testing.T) {
	r := newRouter(t)
	r.host(r.up, map[int]uint32{layout.StageNormalOut: r.allowAll(), layout.StageForwardOut: r.denyAll()})
	r.want(r.born(r.up, udp(here, bob, 3, 4)), PassPolicy)
	r.want(r.born(r.up, udp(here, bob, 3, 4)), PassFlow)
	r.want(r.out(r.up, udp(here, bob, 3, 4)), DropPolicy)
}

func TestAnswersOfAHost(t *testing.T) {
	r := newRouter(t)
	r.host(r.up, map[int]uint32{layout.StageNormalIn: r.denyAll(), layout.StageNormalOut: r.allowAll()})
	r.host(r.up2, map[int]uint32{layout.StageNormalIn: r.denyAll(), layout.StageNormalOut: r.allowAll()})
	r.want(r.in(r.up, udp(bob, here, 4, 3)), DropPolicy)
	r.want(r.born(r.up, udp(here, bob, 3, 4)), PassPolicy)
	r.want(r.in(r.up, udp(bob, here, 4, 3)), PassFlow)
	r.want(r.in(r.up2, udp(bob, here, 4, 3)), PassPolicy) // by the other uplink: the question was allowed there, too
	r.host(r.up2, map[int]uint32{layout.StageNormalIn: r.denyAll(), layout.StageNormalOut: r.denyAll()})
	r.shared.AdvanceEpoch()
	r.want(r.born(r.up, udp(here, bob, 3, 4)), PassPolicy)
	r.want(r.in(r.up2, udp(bob, here, 4, 3)), DropPolicy)
	r.want(r.in(r.up, udp(bob, here, 4, 3)), PassFlow)
}

func TestAnswersThroughAddressTranslation(t *testing.T) {
	r := newRouter(t)
	r.host(r.up, map[int]uint32{
		layout.StageNormalIn: r.denyAll(), layout.StageNormalOut: r.denyAll(), layout.StageForwardIn: r.denyAll(), layout.StageForwardOut: r.allowAll()})
	r.want(r.out(r.up, udp(here, bob, 30, 4)), PassPolicy) // a workload behind the host's address
	r.want(r.in(r.up, udp(bob, here, 4, 30)), PassFlow)    // looks local
}

func TestUntrackedPolicyComesFirst(t *testing.T) {
	r := newRouter(t)
	r.host(r.up, map[int]uint32{
		layout.StageUntrackedIn: r.mask(
			rule{id: 1, action: layout.ActionAllow, service: layout.ServiceUDP + 53 + 1},
			rule{id: 2, action: layout.ActionDeny, service: layout.ServiceUDP + 54 + 1}),
		layout.StageNormalIn: r.mask(rule{id: 3, action: layout.ActionAllow}),
	})
	r.want(r.in(r.up, udp(bob, here, 1, 53)), PassUntracked)
	r.want(r.in(r.up, udp(bob, here, 1, 54)), DropPolicy)
	if n := len(r.connections()); n != 0 {
		t.Errorf("%d connections, want none", n)
	}
	r.want(r.in(r.up, udp(bob, here, 1, 55)), PassPolicy)
}

func TestPreDNATPolicyComesBeforeNormalAndForward(t *testing.T) {
	r := newRouter(t)
	pre := r.mask(
		rule{id: 1, action: layout.ActionAllow, service: layout.ServiceUDP + 53 + 1},
		rule{id: 2, action: layout.ActionDeny, service: layout.ServiceUDP + 54 + 1})
	r.host(r.up, map[int]uint32{layout.StagePreDNATIn: pre, layout.StageNormalIn: r.denyAll(), layout.StageForwardIn: r.denyAll(), layout.StageNormalOut: r.denyAll()})
	for _, to := range []string{here, alice} {
		o := r.in(r.up, udp(bob, to, 1, 53))
		r.want(o, PassPolicy)
		if o.Rule != 1 {
			t.Errorf("%+v", o)
		}
		r.want(r.in(r.up, udp(bob, to, 1, 54)), DropPolicy)
		r.want(r.in(r.up, udp(bob, to, 1, 55)), DropPolicy)
	}
	r.want(r.born(r.up, udp(here, bob, 53, 1)), PassFlow)
	r.shared.AdvanceEpoch()
	r.want(r.born(r.up, udp(here, bob, 53, 1)), PassPolicy) // the answer, judged as its question
}

func TestEndOfPolicy(t *testing.T) {
	r := newRouter(t)
	never := r.mask(rule{id: 1, action: layout.ActionAllow, service: layout.ServiceTCP + 1})
	r.host(r.up, map[int]uint32{layout.StageNormalIn: never, layout.StageForwardIn: r.mask(rule{id: 2, action: layout.ActionAllow, service: layout.ServiceTCP + 1})})
	r.want(r.in(r.up, udp(bob, here, 1, 2)), DropEndOfPolicy)
	r.want(r.in(r.up, udp(bob, alice, 1, 2)), PassEndOfForward)
}

func TestNeighbourDiscoveryPassesHostPolicy(t *testing.T) {
	r := newRouter(t)
	deny := r.denyAll()
	r.host(r.up, map[int]uint32{layout.StageNormalIn: deny, layout.StageNormalOut: deny, layout.StageForwardIn: deny, layout.StageForwardOut: deny})
	r.want(r.in(r.up, arp(bob, here)), PassNeighbour)
	r.want(r.in(r.up, neighbour("fe80::9", here6, 135, here6, 255)), PassNeighbour)
	r.want(r.born(r.up, neighbour(here6, "fe80::9", 136, here6, 255)), PassNeighbour)
	r.want(r.in(r.up, neighbour("fe80::9", "ff02::1", 134, here6, 255)), PassNeighbour)
	r.want(r.in(r.up, neighbour("fe80::9", here6, 135, here6, 64)), DropPolicy) // it was forwarded
}

func TestContinuations(t *testing.T) {
	r := newRouter(t)
	out := r.mask(
		rule{id: 1, action: layout.ActionLog},
		rule{id: 2, action: layout.ActionPass, next: 4},
		rule{id: 3, action: layout.ActionDeny},
		rule{id: 4, action: layout.ActionDeny},
		rule{id: 5, action: layout.ActionAllow, service: layout.ServiceUDP + 2 + 1},
		rule{id: 6, action: layout.ActionDeny})
	r.workload(r.v1, 5, 0, out, alice)
	for id := range uint64(7) {
		must(t, r.shared.CreateRule(id))
	}
	if o := r.in(r.v1, udp(alice, bob, 1, 2)); o.Rule != 5 || !o.Allowed {
		t.Errorf("%+v", o)
	}
	if o := r.in(r.v1, udp(alice, bob, 1, 3)); o.Rule != 6 || o.Allowed {
		t.Errorf("%+v", o)
	}
	hits, err := r.shared.AllRuleHits()
	must(t, err)
	for id, want := range []uint64{0, 2, 2, 0, 0, 1, 1} {
		if hits[uint64(id)].Packets != want {
			t.Errorf("rule %d has %d hits, want %d", id, hits[uint64(id)].Packets, want)
		}
	}
}

func TestTooManyContinuationsAreDenied(t *testing.T) {
	r := newRouter(t)
	for _, n := range []int{layout.MaxContinuations, layout.MaxContinuations + 1} {
		var rules []rule
		for range n {
			rules = append(rules, rule{id: 1, action: layout.ActionLog})
		}
		r.workload(r.v1, 5, 0, r.mask(append(rules, rule{id: 2, action: layout.ActionAllow})...), alice)
		want := PassPolicy
		if n > layout.MaxContinuations {
			want = DropContinuations
		}
		r.want(r.in(r.v1, udp(alice, bob, uint16(n), 2)), want)
	}
}

func TestSourcePortCounts(t *testing.T) {
	r := newRouter(t)
	r.workload(r.v1, 5, 0, r.mask(
		rule{id: 1, action: layout.ActionAllow, sourcePort: layout.ServiceUDP + 7 + 1},
		rule{id: 2, action: layout.ActionAllow, sourcePort: layout.SourcePortNone + 1},
		rule{id: 3, action: layout.ActionDeny}), alice)
	for _, c := range []struct {
		packet []byte
		rule   uint64
	}{{udp(alice, bob, 7, 2), 1}, {udp(alice, bob, 8, 2), 3}, {echo(alice, bob, false, 7), 2}} {
		if o := r.in(r.v1, c.packet); o.Rule != c.rule {
			t.Errorf("%+v, want rule %d", o, c.rule)
		}
	}
}

func TestAnswerOfAWorkloadForgedOnTheWire(t *testing.T) {
	r := newRouter(t)
	allow, deny := r.allowAll(), r.denyAll()
	r.workload(r.v1, 5, deny, allow, alice)
	r.workload(r.v2, 6, allow, deny, carol)
	r.host(r.up, map[int]uint32{layout.StageNormalIn: allow, layout.StageNormalOut: allow, layout.StageForwardIn: allow, layout.StageForwardOut: deny})
	r.want(r.in(r.v1, udp(alice, carol, 9, 53)), PassPolicy)
	r.want(r.out(r.v2, udp(alice, carol, 9, 53)), PassPolicy)
	o := r.in(r.up, udp(carol, alice, 53, 9))
	r.want(o, DropPolicy) // alice's question would not have been let out here
	if o.Stage != layout.StageForwardOut {
		t.Errorf("judged at stage %d", o.Stage)
	}
	r.want(r.in(r.v2, udp(carol, alice, 53, 9)), PassFlow)
}

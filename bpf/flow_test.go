package bpf

import (
	"testing"
	"time"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/internal/lab"
)

// connection reads the one connection that there is.
func (r *rig) connection() Connection {
	r.Helper()
	all := r.connections()
	if len(all) != 1 {
		r.Fatalf("%s: %d connections, want one", r.name, len(all))
	}
	return all[0]
}

func (r *rig) connections() (all []Connection) {
	r.Helper()
	must(r, r.shared.Connections(func(c Connection) bool { all = append(all, c); return true }))
	return all
}

func (r *rig) forgetAll() {
	r.Helper()
	for _, c := range r.connections() {
		must(r, r.shared.DeleteConnection(c.Key))
	}
}

// outbound lets the workload open connections and denies all that others open.
func outbound(t *testing.T) *router {
	r := newRouter(t)
	deny := r.denyAll()
	r.workload(r.v1, 5, deny, r.allowAll(), alice, alice6)
	r.workload(r.v2, 6, deny, deny, carol, carol6)
	return r
}

func TestAnswersPassAtTheHooksOfTheirQuestion(t *testing.T) {
	r := outbound(t)
	for _, c := range []struct {
		name             string
		question, answer []byte
	}{
		{"UDP", udp(alice, bob, 9, 53), udp(bob, alice, 53, 9)},
		{"UDP over IPv6", udp(alice6, bob6, 9, 53), udp(bob6, alice6, 53, 9)},
		{"TCP", tcp(alice, bob, 9, 80, "S", 1, 0), tcp(bob, alice, 80, 9, "SA", 7, 2)},
		{"ping", echo(alice, bob, false, 3), echo(bob, alice, true, 3)},
		{"ping over IPv6", echo(alice6, bob6, false, 3), echo(bob6, alice6, true, 3)},
		{"GRE", newFrame(alice, bob, 47, nil).bytes(), newFrame(bob, alice, 47, nil).bytes()},
	} {
		r.name = c.name
		r.want(r.out(r.v1, c.answer), DropPolicy)
		r.want(r.in(r.v1, c.question), PassPolicy)
		r.want(r.out(r.v1, c.answer), PassFlow)
		r.want(r.in(r.v1, c.question), map[bool]Reason{true: PassPolicy, false: PassFlow}[c.name == "TCP"])
	}
}

func TestDeniedPacketsLeaveNoConnection(t *testing.T) {
	r := outbound(t)
	r.want(r.out(r.v1, udp(bob, alice, 53, 9)), DropPolicy)
	r.want(r.in(r.v2, udp(carol, bob, 53, 9)), DropPolicy)
	if n := len(r.connections()); n != 0 {
		t.Errorf("%d connections, want none", n)
	}
}

func TestPingsOfTwoEndsWithOneIdentifierStayApart(t *testing.T) {
	r := outbound(t)
	r.want(r.in(r.v1, echo(alice, bob, false, 3)), PassPolicy)
	r.want(r.out(r.v1, echo(bob, alice, false, 3)), DropPolicy)
	r.want(r.out(r.v1, echo(bob, alice, true, 4)), DropPolicy)
}

func TestHandshakeProvesAConnection(t *testing.T) {
	r := outbound(t)
	steps := []struct {
		name   string
		run    func() Outcome
		want   Reason
		proven bool
	}{
		{"SYN", func() Outcome { return r.in(r.v1, tcp(alice, bob, 9, 80, "S", 100, 0)) }, PassPolicy, false},
		{"SYN-ACK", func() Outcome { return r.out(r.v1, tcp(bob, alice, 80, 9, "SA", 700, 101)) }, PassFlow, false},
		{"wrong ACK", func() Outcome { return r.in(r.v1, tcp(alice, bob, 9, 80, "A", 101, 99)) }, PassFlow, false},
		{"ACK", func() Outcome { return r.in(r.v1, tcp(alice, bob, 9, 80, "A", 101, 701)) }, PassFlow, true},
		{"data", func() Outcome { return r.out(r.v1, tcp(bob, alice, 80, 9, "A", 701, 101)) }, PassFlow, true},
	}
	for _, step := range steps {
		r.name = step.name
		r.want(step.run(), step.want)
		if c := r.connection(); c.Proven != step.proven {
			t.Errorf("%s: proven is %v", step.name, c.Proven)
		}
	}
	c := r.connection()
	if c.State != layout.FlowTCPEstablished || c.Opener.String() != alice+":9" || c.Replier.String() != bob+":80" {
		t.Errorf("%+v", c)
	}
	a := c.Approvals[0]
	if a.Endpoint != 5 || a.Rule != 1000 || a.Ifindex != r.v1 || a.Stage != layout.StageNormalOut || a.Packets != [2]uint64{3, 2} {
		t.Errorf("approval %+v", a)
	}
	if c.Approvals[1].Ifindex != 0 {
		t.Errorf("a hook that saw nothing approved %+v", c.Approvals[1])
	}
}

func TestDatagramsAreProvenByAFurtherPacketAfterAnAnswer(t *testing.T) {
	r := outbound(t)
	r.in(r.v1, udp(alice, bob, 9, 53))
	r.in(r.v1, udp(alice, bob, 9, 53))
	if r.connection().Proven {
		t.Error("proven without an answer")
	}
	r.out(r.v1, udp(bob, alice, 53, 9))
	if r.connection().Proven {
		t.Error("proven by an answer alone")
	}
	r.in(r.v1, udp(alice, bob, 9, 53))
	if !r.connection().Proven {
		t.Error("not proven")
	}
}

func TestConnectionsEnd(t *testing.T) {
	r := outbound(t)
	r.in(r.v1, tcp(alice, bob, 9, 80, "S", 100, 0))
	r.out(r.v1, tcp(bob, alice, 80, 9, "SA", 700, 101))
	r.in(r.v1, tcp(alice, bob, 9, 80, "A", 101, 701))
	r.in(r.v1, tcp(alice, bob, 9, 80, "FA", 101, 701))
	if s := r.connection().State; s != layout.FlowTCPEstablished {
		t.Errorf("state %d after one FIN", s)
	}
	r.out(r.v1, tcp(bob, alice, 80, 9, "FA", 701, 102))
	if s := r.connection().State; s != layout.FlowTCPFins {
		t.Errorf("state %d after both FINs", s)
	}
	r.want(r.in(r.v1, tcp(alice, bob, 9, 80, "A", 102, 702)), PassFlow)
	r.want(r.in(r.v1, tcp(alice, bob, 9, 80, "S", 9000, 0)), PassPolicy)
	if c := r.connection(); c.State != layout.FlowTCPOpening || c.Proven {
		t.Errorf("a new connection on old ports: %+v", c)
	}
	r.out(r.v1, tcp(bob, alice, 80, 9, "RA", 0, 9001))
	if s := r.connection().State; s != layout.FlowTCPReset {
		t.Errorf("state %d after a reset", s)
	}
}

func TestExpiredConnectionsCountAsAbsent(t *testing.T) {
	r := outbound(t)
	r.shared.Settings.Timeout[layout.FlowUDP] = uint64(30 * time.Millisecond)
	r.in(r.v1, udp(alice, bob, 9, 53))
	r.want(r.out(r.v1, udp(bob, alice, 53, 9)), PassFlow)
	r.in(r.v1, udp(alice, bob, 9, 53))
	lab.LetPass(50 * time.Millisecond) // longer than the timeout; a packet that asks would renew the connection
	r.want(r.out(r.v1, udp(bob, alice, 53, 9)), DropPolicy)
	r.want(r.in(r.v1, udp(alice, bob, 9, 53)), PassPolicy)
}

func TestSweepFreesExpiredConnections(t *testing.T) {
	r := outbound(t)
	r.in(r.v1, tcp(alice, bob, 9, 80, "S", 100, 0))
	r.shared.Settings.Timeout[layout.FlowUDP] = uint64(30 * time.Millisecond)
	for port := range uint16(20) {
		r.in(r.v1, udp(alice, bob, port, 53))
	}
	lab.LetPass(50 * time.Millisecond) // longer than the timeout; one sweep must free all
	swept, err := r.Sweep()
	must(t, err)
	if swept.Removed != 20 || swept.Unproven != 1 {
		t.Errorf("%+v", swept)
	}
}

func TestPolicyChangeEndsConnections(t *testing.T) {
	for _, proven := range []bool{false, true} {
		r := outbound(t)
		r.in(r.v1, udp(alice, bob, 9, 53))
		r.out(r.v1, udp(bob, alice, 53, 9))
		if proven {
			r.in(r.v1, udp(alice, bob, 9, 53))
		}
		deny := r.denyAll()
		r.workload(r.v1, 5, deny, deny)
		r.want(r.in(r.v1, udp(alice, bob, 9, 53)), PassFlow) // the change is not complete yet
		r.shared.AdvanceEpoch()
		r.want(r.out(r.v1, udp(bob, alice, 53, 9)), DropRevoked)
		r.want(r.in(r.v1, udp(alice, bob, 9, 53)), DropRevoked)
		if c := r.connection(); !c.Revoked() {
			t.Errorf("%+v, want it revoked", c)
		}
	}
}

func TestConnectionsThatAreStillAllowedLiveThroughAChange(t *testing.T) {
	r := outbound(t)
	r.in(r.v1, udp(alice, bob, 9, 53))
	r.shared.AdvanceEpoch()
	r.want(r.out(r.v1, udp(bob, alice, 53, 9)), PassPolicy) // judged as the question that it answers
	r.want(r.out(r.v1, udp(bob, alice, 53, 9)), PassFlow)
	if a := r.connection().Approvals[0]; a.Epoch != r.shared.Epoch() || a.Stage != layout.StageNormalOut {
		t.Errorf("%+v", a)
	}
}

func TestConnectionsStayAllowedWithoutRevocation(t *testing.T) {
	r := outbound(t)
	r.shared.Settings.Revoke = 0
	r.in(r.v1, tcp(alice, bob, 9, 80, "S", 1, 0))
	deny := r.denyAll()
	r.workload(r.v1, 5, deny, deny)
	r.shared.AdvanceEpoch()
	r.want(r.out(r.v1, tcp(bob, alice, 80, 9, "SA", 1, 2)), PassFlow)
	r.want(r.in(r.v1, tcp(alice, bob, 9, 80, "S", 1, 0)), DropPolicy) // a SYN is always judged
}

func TestEachSideApprovesForItself(t *testing.T) {
	r := outbound(t)
	r.want(r.in(r.v1, udp(alice, carol, 9, 53)), PassPolicy)
	r.want(r.out(r.v2, udp(alice, carol, 9, 53)), DropPolicy)
	r.want(r.in(r.v2, udp(carol, alice, 53, 9)), DropPolicy) // the question never came
	allow := r.allowAll()
	r.workload(r.v2, 6, allow, r.denyAll())
	r.want(r.out(r.v2, udp(alice, carol, 9, 53)), PassPolicy)
	r.want(r.in(r.v2, udp(carol, alice, 53, 9)), PassFlow)
	r.want(r.out(r.v1, udp(carol, alice, 53, 9)), PassFlow)
	c := r.connection()
	if c.Approvals[0].Endpoint != 5 || c.Approvals[1].Endpoint != 6 {
		t.Errorf("%+v", c.Approvals)
	}
}

func TestApprovalDoesNotHoldForAnotherEndpoint(t *testing.T) {
	r := outbound(t)
	r.in(r.v1, udp(alice, bob, 9, 53))
	deny := r.denyAll()
	r.workload(r.v1, 50, deny, deny) // another endpoint on this interface
	r.want(r.in(r.v1, udp(alice, bob, 9, 53)), DropPolicy)
}

func TestApprovalDoesNotHoldForAnotherInterface(t *testing.T) {
	r := outbound(t)
	r.in(r.v1, udp(alice, bob, 9, 53))
	deny := r.denyAll()
	r.workload(r.v2, 6, deny, deny, alice)
	r.want(r.in(r.v2, udp(alice, bob, 9, 53)), DropPolicy)
	r.want(r.out(r.v2, udp(bob, alice, 53, 9)), DropPolicy)
	r.want(r.out(r.v1, udp(bob, alice, 53, 9)), PassFlow) // nobody else ends it
	r.workload(r.v2, 6, deny, r.allowAll(), alice)        // the endpoint has moved
	r.want(r.out(r.v2, udp(bob, alice, 53, 9)), PassPolicy)
}

func TestErrorsFollowTheConnectionTheyQuote(t *testing.T) {
	r := outbound(t)
	for _, c := range []struct{ name, in, out, router string }{{"IPv4", alice, bob, "198.51.100.1"}, {"IPv6", alice6, bob6, "2001:db8:ffff::1"}} {
		r.name = c.name
		question := udp(c.in, c.out, 9, 53)
		r.want(r.out(r.v1, unreachable(c.router, c.in, question)), DropPolicy)
		r.in(r.v1, question)
		r.want(r.out(r.v1, unreachable(c.router, c.in, question)), PassRelated)
		r.want(r.out(r.v1, unreachable(c.router, c.in, udp(c.in, c.out, 9, 54))), DropPolicy)
		r.want(r.out(r.v1, unreachable(c.router, c.in, udp(c.out, c.in, 53, 9))), DropPolicy) // not sent by whom it informs
		if r.connection().Approvals[0].Packets != [2]uint64{1, 0} {
			t.Errorf("%s: the error counts as a packet of the connection", c.name)
		}
		r.shared.AdvanceEpoch()
		r.want(r.out(r.v1, unreachable(c.router, c.in, question)), PassRelated)
		r.workload(r.v1, 5, r.denyAll(), r.denyAll())
		r.shared.AdvanceEpoch()
		r.want(r.out(r.v1, unreachable(c.router, c.in, question)), DropPolicy)
		if len(r.connections()) != 1 {
			t.Errorf("%s: an error ended the connection", c.name)
		}
		r.workload(r.v1, 5, r.denyAll(), r.allowAll())
		r.forgetAll()
	}
}

func TestErrorsMayQuoteAnyFormOfAPacket(t *testing.T) {
	r := outbound(t)
	first, later := fragments(3)
	first6, later6 := fragments6(3)
	options := newFrame(alice, bob, 17, udpHeader(9, 53))
	options.options = make([]byte, 40)
	chain := newFrame(alice6, bob6, 17, udpHeader(9, 53))
	chain.first, chain.headers = 60, extensions(5, 17)
	both := newFrame(alice6, bob6, 17, append(udpHeader(9, 53), make([]byte, 11)...))
	both.first, both.headers = 60, append(extensions(1, 44), 17, 0, 0, 1, 0, 0, 0, 9)
	_, unseen := fragments(4)
	_, unseen6 := fragments6(4)
	for _, c := range []struct {
		name   string
		sent   [][]byte
		quoted []byte
		want   Reason
	}{
		{"IPv4 options", [][]byte{options.bytes()}, options.bytes(), PassRelated},
		{"IPv4 first fragment", [][]byte{first, later}, first, PassRelated},
		{"IPv4 later fragment", [][]byte{first, later}, later, PassRelated},
		{"IPv4 later fragment of another packet", [][]byte{first, later}, unseen, DropPolicy},
		{"extension headers", [][]byte{chain.bytes()}, chain.bytes(), PassRelated},
		{"first fragment", [][]byte{first6, later6}, first6, PassRelated},
		{"later fragment", [][]byte{first6, later6}, later6, PassRelated},
		{"later fragment of another packet", [][]byte{first6, later6}, unseen6, DropPolicy},
		{"options and fragment header", [][]byte{both.bytes()}, both.bytes(), PassRelated},
		{"nothing but the IPv6 header", [][]byte{chain.bytes()}, chain.bytes()[:54], DropPolicy},
	} {
		r.name = c.name
		router, in := "198.51.100.1", alice
		if c.quoted[12] == 0x86 {
			router, in = "2001:db8:ffff::1", alice6
		}
		r.want(r.out(r.v1, unreachable(router, in, c.quoted)), DropPolicy)
		for _, packet := range c.sent {
			r.in(r.v1, packet)
		}
		r.want(r.out(r.v1, unreachable(router, in, c.quoted)), c.want)
		r.forgetAll()
	}
}

func TestFlowToItselfIsDefined(t *testing.T) {
	r := outbound(t)
	packet := udp(alice, alice, 9, 9)
	r.want(r.in(r.v1, packet), PassPolicy)
	r.want(r.in(r.v1, packet), PassFlow)
	r.want(r.out(r.v1, packet), DropPolicy)
	r.want(r.in(r.v1, echo(alice, alice, false, 9)), PassPolicy)
	r.want(r.in(r.v1, echo(alice, alice, true, 9)), PassFlow)
}

func fragments(id uint32) (first, later []byte) {
	f := newFrame(alice, bob, 17, append(udpHeader(9, 53), make([]byte, 11)...))
	f.id, f.more = id, true
	first = f.bytes()
	f = newFrame(alice, bob, 17, make([]byte, 24))
	f.id, f.offset = id, 3
	return first, f.bytes()
}

func fragments6(id uint32) (first, later []byte) {
	header := func(offset uint16) []byte {
		return append16(append([]byte{17, 0}, append16(nil, offset)...), 0, uint16(id))
	}
	f := newFrame(alice6, bob6, 17, append(udpHeader(9, 53), make([]byte, 11)...))
	f.first, f.headers = 44, header(1)
	first = f.bytes()
	f = newFrame(alice6, bob6, 17, make([]byte, 24))
	f.first, f.headers = 44, header(3<<3)
	return first, f.bytes()
}

func TestLaterFragmentsHaveThePortsOfTheFirst(t *testing.T) {
	for name, make := range map[string]func(uint32) ([]byte, []byte){"IPv4": fragments, "IPv6": fragments6} {
		r := newRouter(t)
		r.name = name
		r.workload(r.v1, 5, 0, r.mask(
			rule{id: 1, action: layout.ActionAllow, service: layout.ServiceUDP + 53 + 1}, rule{id: 2, action: layout.ActionDeny}), alice, alice6)
		first, later := make(1)
		r.want(r.in(r.v1, later), DropFragment)
		r.want(r.in(r.v1, first), PassPolicy)
		r.want(r.in(r.v1, later), PassFlow)
		_, other := make(2)
		r.want(r.in(r.v1, other), DropFragment)
	}
}

// converse opens connections that their openers may prove.
func (r *rig) converse(ifindex uint32, from string, n int) {
	r.Helper()
	for port := range uint16(n) {
		r.in(ifindex, udp(from, bob, port, 53))
		r.out(ifindex, udp(bob, from, 53, port))
		r.want(r.in(ifindex, udp(from, bob, port, 53)), PassFlow)
		r.want(r.out(ifindex, udp(bob, from, 53, port)), PassFlow)
	}
}

func (r *rig) proven() map[uint64]int {
	r.Helper()
	count := map[uint64]int{}
	for _, c := range r.connections() {
		if c.Proven {
			count[c.Approvals[0].Endpoint]++
		}
	}
	return count
}

func TestFullTableKeepsConnectionsAmongTheUnproven(t *testing.T) {
	r := newRigOf(t, smallSizes(), SharedSizes{Flows: 4, NewFlows: 1024})
	r.shared.Settings.Share = 100
	i := r.workload(1, 5, 0, r.allowAll(), alice)
	i.Flags |= layout.IfaceToHost
	r.iface(i)
	r.converse(1, alice, 10)
	if n := len(r.connections()); n != 10 {
		t.Errorf("%d connections, want 10", n)
	}
	counts, err := r.shared.ReasonCounts()
	must(t, err)
	if counts[NoteFlowsFull].Packets == 0 {
		t.Error("nobody was told")
	}
}

func TestNoEndpointFillsTheTableAlone(t *testing.T) {
	r := newRouter(t)
	r.shared.Settings.Share = 10
	r.workload(r.v1, 5, 0, r.allowAll(), alice)
	r.workload(r.v2, 6, 0, r.allowAll(), carol)
	r.converse(r.v1, alice, 25)
	r.converse(r.v2, carol, 8)
	if p := r.proven(); p[5] != 10 || p[6] != 8 {
		t.Errorf("proven: %v", p)
	}
	counts, err := r.shared.ReasonCounts()
	must(t, err)
	if counts[NoteShareFull].Packets == 0 {
		t.Error("nobody was told")
	}
	r.forgetAll()
	_, err = r.Sweep() // counts anew
	must(t, err)
	r.converse(r.v1, alice, 25)
	if p := r.proven(); p[5] != 10 {
		t.Errorf("proven: %v", p)
	}
}

func TestRecycledElementIsNotMistaken(t *testing.T) {
	r := outbound(t)
	r.in(r.v1, udp(alice, bob, 9, 53))
	r.want(r.in(r.v1, udp(alice, bob, 9, 53)), PassFlow)
	k := r.connection().Key
	var f layout.Flow
	must(t, r.shared.tables.current.new.Lookup(&k, &f))
	f.Tag++ // as if the element had become another connection's
	must(t, r.shared.tables.current.new.Put(&k, &f))
	if o := r.in(r.v1, udp(alice, bob, 9, 53)); o.Reason == PassFlow {
		t.Error("an approval of another connection was taken")
	}
	class := ClassOf(addr("192.0.2.1"), 0, 0)
	class.Source, class.Dest = 1, 1
	must(t, r.Hosts.Put(Address(addr(bob)), class)) // a value that is not of this key counts as absent
	r.want(r.in(r.v1, udp(alice, bob, 10, 53)), PassPolicy)
}

// A sender that knows the ports can forge a reset. If its supposed sender goes on sending, it was forged. What the other
// end sends may have been on its way.
func TestAForgedResetEndsNothing(t *testing.T) {
	r := outbound(t)
	state := func(when string, want int) {
		t.Helper()
		if s := r.connection().State; s != want {
			t.Errorf("%s: state %d, want %d", when, s, want)
		}
	}
	fromAlice := func(flags string) { r.want(r.in(r.v1, tcp(alice, bob, 9, 80, flags, 101, 701)), PassFlow) }
	fromBob := func(flags string) { r.want(r.out(r.v1, tcp(bob, alice, 80, 9, flags, 701, 101)), PassFlow) }
	r.in(r.v1, tcp(alice, bob, 9, 80, "S", 100, 0))
	fromBob("R")
	r.out(r.v1, tcp(bob, alice, 80, 9, "SA", 700, 101))
	state("while it opens", layout.FlowTCPOpening)
	fromAlice("A")
	for _, c := range []struct {
		name          string
		forged, other func(string)
	}{{"the replier", fromBob, fromAlice}, {"the opener", fromAlice, fromBob}} {
		c.forged("R")
		c.other("A")
		state("after a reset of "+c.name, layout.FlowTCPReset)
		c.forged("A")
		state(c.name+" speaks on", layout.FlowTCPEstablished)
		c.forged("R")
		r.shared.AdvanceEpoch() // the next packet is judged again
		r.want(map[string]func() Outcome{
			"the replier": func() Outcome { return r.out(r.v1, tcp(bob, alice, 80, 9, "A", 701, 101)) },
			"the opener":  func() Outcome { return r.in(r.v1, tcp(alice, bob, 9, 80, "A", 101, 701)) },
		}[c.name](), PassPolicy)
		state(c.name+" speaks on after a change of policy", layout.FlowTCPEstablished)
	}
	fromBob("R")
	fromAlice("FA")
	state("a reset, and a FIN of the other end", layout.FlowTCPReset)
	fromBob("FA")
	state("both have ended", layout.FlowTCPFins)
}

package bpf

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/internal/lab"
)

// talk is a connection of one protocol: the packets of its opener and its replier, once it is open.
type talk struct {
	name             string
	open             func(from, to string) [][]byte // packets that open it, in turn from either end
	question, answer func(from, to string) []byte
}

// talks are connections of every protocol that opener and replier speak on ports 9 and 53.
func talks() []talk {
	header := func(proto uint8) talk {
		return talk{
			question: func(from, to string) []byte { return newFrame(from, to, proto, udpHeader(9, 53)).bytes() },
			answer:   func(from, to string) []byte { return newFrame(to, from, proto, udpHeader(53, 9)).bytes() },
		}
	}
	datagrams, unproven, sctp := header(17), header(17), header(132)
	datagrams.name, unproven.name, sctp.name = "UDP", "UDP, unproven", "SCTP"
	unproven.open = func(from, to string) [][]byte { return [][]byte{unproven.question(from, to)} }
	ping := talk{name: "ICMP echo",
		question: func(from, to string) []byte { return echo(from, to, false, 3) },
		answer:   func(from, to string) []byte { return echo(to, from, true, 3) }}
	segments := talk{name: "TCP",
		open: func(from, to string) [][]byte {
			return [][]byte{
				tcp(from, to, 9, 53, "S", 100, 0), tcp(to, from, 53, 9, "SA", 700, 101), tcp(from, to, 9, 53, "A", 101, 701)}
		},
		question: func(from, to string) []byte { return tcp(from, to, 9, 53, "A", 101, 701) },
		answer:   func(from, to string) []byte { return tcp(to, from, 53, 9, "A", 701, 101) }}
	handshake := segments
	handshake.name = "TCP, unproven"
	handshake.open = func(from, to string) [][]byte { return segments.open(from, to)[:2] }
	all := []talk{datagrams, unproven, sctp, ping, segments, handshake}
	for i := range all {
		if all[i].open == nil {
			all[i].open = func(from, to string) [][]byte {
				return [][]byte{all[i].question(from, to), all[i].answer(from, to), all[i].question(from, to)}
			}
		}
	}
	return all
}

// inbound lets the workload be reached and open connections itself, as most are.
func inbound(t *testing.T) (r *router, allow, deny uint32) {
	r = newRouter(t)
	allow, deny = r.allowAll(), r.denyAll()
	r.workload(r.v1, 5, allow, allow, alice, alice6)
	r.workload(r.v2, 6, allow, allow, carol, carol6)
	return r, allow, deny
}

func TestRevokedConnectionIsNotReopenedByItsReplier(t *testing.T) {
	r, allow, deny := inbound(t)
	for _, c := range talks() {
		for _, ends := range [][2]string{{bob, alice}, {bob6, alice6}} {
			for _, replierFirst := range []bool{false, true} {
				r.name = fmt.Sprintf("%s from %s, replier first %v", c.name, ends[0], replierFirst)
				question := func() Outcome { return r.out(r.v1, c.question(ends[0], ends[1])) }
				answer := func() Outcome { return r.in(r.v1, c.answer(ends[0], ends[1])) }
				for i, packet := range c.open(ends[0], ends[1]) {
					r.want([]func(uint32, []byte) Outcome{r.out, r.in}[i%2](r.v1, packet),
						map[bool]Reason{true: PassPolicy, false: PassFlow}[i == 0])
				}
				if replierFirst {
					question, answer = answer, question
				}
				r.workload(r.v1, 5, deny, allow)
				r.shared.AdvanceEpoch()
				for range 3 {
					r.want(question(), DropRevoked)
					r.want(answer(), DropRevoked)
					r.shared.AdvanceEpoch() // any other change changes nothing here
				}
				if c := r.connection(); !c.Revoked() {
					t.Errorf("%s: %+v, want it revoked", r.name, c)
				}
				r.workload(r.v1, 5, allow, allow)
				r.shared.AdvanceEpoch()
				r.want(answer(), PassPolicy)
				r.want(question(), PassFlow)
				if c := r.connection(); c.Revoked() || c.Opener.Addr().String() != ends[0] {
					t.Errorf("%s: %+v, want it in force again, opened by %s", r.name, c, ends[0])
				}
				r.forgetAll()
			}
		}
	}
}

func TestASynMayReopenARevokedConnection(t *testing.T) {
	r, allow, deny := inbound(t)
	open := func() {
		r.forgetAll()
		r.workload(r.v1, 5, allow, allow)
		r.shared.AdvanceEpoch()
		r.want(r.out(r.v1, tcp(bob, alice, 9, 80, "S", 100, 0)), PassPolicy)
		r.want(r.in(r.v1, tcp(alice, bob, 80, 9, "SA", 700, 101)), PassFlow)
		r.want(r.out(r.v1, tcp(bob, alice, 9, 80, "A", 101, 701)), PassFlow)
		r.workload(r.v1, 5, deny, allow)
		r.shared.AdvanceEpoch()
		r.want(r.in(r.v1, tcp(alice, bob, 80, 9, "A", 701, 101)), DropRevoked)
	}
	open()
	r.want(r.out(r.v1, tcp(bob, alice, 9, 80, "S", 9000, 0)), DropPolicy)
	r.want(r.in(r.v1, tcp(alice, bob, 80, 9, "SA", 1, 9001)), DropRevoked)
	r.want(r.in(r.v1, tcp(alice, bob, 80, 9, "S", 5000, 0)), PassPolicy) // its own connection, which it may have
	if c := r.connection(); c.Opener.Addr() != addr(alice) || c.State != layout.FlowTCPOpening || c.Revoked() {
		t.Errorf("%+v, want a new connection of %s", c, alice)
	}
	r.want(r.out(r.v1, tcp(bob, alice, 9, 80, "SA", 7000, 5001)), PassFlow)
	open()
	r.workload(r.v1, 5, allow, allow)
	r.shared.AdvanceEpoch()
	r.want(r.out(r.v1, tcp(bob, alice, 9, 80, "S", 9000, 0)), PassPolicy)
	if c := r.connection(); c.Opener.Addr() != addr(bob) || c.State != layout.FlowTCPOpening || c.Revoked() {
		t.Errorf("%+v, want a new connection of %s", c, bob)
	}
}

// change edits the entry of the one connection, as if time had passed.
func (r *rig) change(edit func(*layout.Flow)) {
	r.Helper()
	k := r.connection().Key
	for _, set := range []flowSet{r.shared.tables.current, r.shared.tables.old} {
		for _, m := range set.maps() {
			var f layout.Flow
			if m.Lookup(&k, &f) == nil {
				edit(&f)
				must(r, m.Put(&k, &f))
			}
		}
	}
}

func TestRevokedConnectionsAreForgottenWhenIdleOrAfterAWhile(t *testing.T) {
	const kept = 16 * time.Minute
	r, allow, deny := inbound(t)
	answer := func() Outcome { return r.in(r.v1, udp(alice, bob, 53, 9)) }
	for _, c := range []struct {
		name          string
		since         time.Duration // when it was revoked
		stays, passes bool
	}{
		{"traffic goes on", 0, true, false},
		{"traffic has gone on for long", kept - time.Second, true, false},
		{"traffic has gone on for too long", kept + time.Second, false, true},
	} {
		r.name = c.name
		r.forgetAll()
		r.workload(r.v1, 5, allow, allow)
		r.want(r.out(r.v1, udp(bob, alice, 9, 53)), PassPolicy)
		r.workload(r.v1, 5, deny, allow)
		r.shared.AdvanceEpoch()
		r.want(answer(), DropRevoked)
		r.change(func(f *layout.Flow) {
			f.Seen -= uint64(59 * time.Second)
			f.Legs[1].Epoch = legRevoked | (f.Legs[1].Epoch - uint64(c.since)) // also on a host that was booted later
		})
		r.want(answer(), DropRevoked)
		idle := r.connection().Idle
		if refreshed := idle < 30*time.Second; refreshed != c.stays {
			t.Errorf("%s: idle for %v", c.name, idle)
		}
		r.change(func(f *layout.Flow) { f.Seen -= uint64(30 * time.Second) })
		swept, err := r.Sweep()
		must(t, err)
		if freed := swept.Removed == 1; freed == c.stays {
			t.Errorf("%s: the sweep freed %d", c.name, swept.Removed)
		}
		if c.passes { // a datagram may open a connection
			r.want(answer(), PassPolicy)
		}
	}
}

func TestAnswersAreJudgedAsTheirQuestionIfThatWasNotSeen(t *testing.T) {
	r, allow, deny := inbound(t)
	for _, c := range talks() {
		r.name = c.name
		r.host(r.up, nil) // no policy, no program's approval
		for i, packet := range c.open(bob, alice) {
			[]func(uint32, []byte) Outcome{r.out, r.in}[i%2](r.v1, packet)
		}
		in, out := c.question(bob, alice), c.answer(bob, alice)
		r.host(r.up, map[int]uint32{layout.StageNormalIn: allow, layout.StageNormalOut: allow, layout.StageForwardIn: deny, layout.StageForwardOut: allow})
		r.shared.AdvanceEpoch()
		r.want(r.out(r.up, out), DropPolicy)
		r.want(r.in(r.up, in), DropPolicy)
		r.host(r.up, map[int]uint32{layout.StageNormalIn: deny, layout.StageNormalOut: deny, layout.StageForwardIn: allow, layout.StageForwardOut: deny})
		r.shared.AdvanceEpoch()
		r.want(r.out(r.up, out), PassPolicy)
		r.want(r.in(r.up, in), PassFlow)
		r.forgetAll()
	}
	// At the workload of an opener and of a replier.
	for _, c := range talks() {
		r.name = c.name
		r.workload(r.v1, 5, deny, allow)
		r.workload(r.v2, 6, allow, deny)
		for i, packet := range c.open(alice, carol) {
			[]func(uint32, []byte) Outcome{r.in, r.out}[i%2](r.v1, packet)
		}
		r.want(r.in(r.v2, c.answer(alice, carol)), PassPolicy)
		r.want(r.out(r.v1, c.answer(alice, carol)), PassFlow)
		r.forgetAll()
		r.workload(r.v2, 6, deny, allow)
		for i, packet := range c.open(alice, carol) {
			[]func(uint32, []byte) Outcome{r.in, r.out}[i%2](r.v1, packet)
		}
		r.want(r.in(r.v2, c.answer(alice, carol)), DropPolicy) // it may open connections, and this is none of its own
		r.want(r.out(r.v2, c.question(alice, carol)), DropPolicy)
		r.forgetAll()
	}
}

func TestErrorsAboutARevokedConnection(t *testing.T) {
	r, allow, deny := inbound(t)
	r.want(r.out(r.v1, udp(bob, alice, 9, 53)), PassPolicy)
	r.want(r.in(r.v1, udp(alice, bob, 53, 9)), PassFlow)
	atBob := unreachable("198.51.100.1", alice, udp(alice, bob, 53, 9))
	r.want(r.out(r.v1, atBob), PassRelated)
	r.workload(r.v1, 5, deny, allow)
	r.shared.AdvanceEpoch()
	for range 2 {
		r.want(r.out(r.v1, atBob), DropPolicy)
		r.want(r.in(r.v1, udp(alice, bob, 53, 9)), DropRevoked)
	}
	r.workload(r.v1, 5, allow, allow)
	r.shared.AdvanceEpoch()
	r.want(r.out(r.v1, atBob), PassRelated)
}

// The address of a service moves between this host and others, and the answer to a former question comes first.
func TestAnAnswerThatComesFirstDoesNotApproveAnotherPlace(t *testing.T) {
	r, allow, deny := inbound(t)
	moving := Address(addr(bob))
	question, answer := udp(alice, bob, 9, 53), udp(bob, alice, 53, 9)
	r.want(r.in(r.v1, question), PassPolicy)
	must(t, r.shared.Locals.Put(moving, 1))
	r.shared.AdvanceEpoch()
	r.want(r.born(r.v1, answer), DropToHost)
	r.want(r.in(r.v1, question), DropToHost)
	must(t, r.shared.Locals.Delete(moving))
	r.shared.AdvanceEpoch()
	r.want(r.out(r.v1, answer), PassPolicy)
	r.want(r.in(r.v1, question), PassFlow)
	r.forgetAll()

	r.host(r.up, map[int]uint32{layout.StageNormalIn: allow, layout.StageNormalOut: deny, layout.StageForwardIn: deny, layout.StageForwardOut: allow})
	moving = Address(addr(alice)) // was this host's, and is a workload's now
	question, answer = udp(bob, alice, 9, 53), udp(alice, bob, 53, 9)
	must(t, r.shared.Locals.Put(moving, 1))
	r.want(r.in(r.up, question), PassPolicy)
	must(t, r.shared.Locals.Delete(moving))
	r.shared.AdvanceEpoch()
	r.want(r.out(r.up, answer), DropRevoked)
	r.want(r.in(r.up, question), DropRevoked)
}

// Without a policy that tells them apart, local and forwarded packets are not told apart. Then there is one.
func TestAnAnswerThatComesFirstIsJudgedInTheStageOfItsQuestion(t *testing.T) {
	r, allow, deny := inbound(t)
	r.host(r.up, map[int]uint32{layout.StageNormalOut: allow})
	r.want(r.in(r.up, udp(bob, alice, 9, 53)), PassNoPolicy)
	r.host(r.up, map[int]uint32{layout.StageNormalIn: deny, layout.StageNormalOut: deny, layout.StageForwardIn: allow, layout.StageForwardOut: deny})
	r.shared.AdvanceEpoch()
	r.want(r.out(r.up, udp(alice, bob, 53, 9)), PassPolicy)
	r.host(r.up, map[int]uint32{layout.StageNormalIn: allow, layout.StageNormalOut: allow, layout.StageForwardIn: deny, layout.StageForwardOut: allow})
	r.shared.AdvanceEpoch()
	r.want(r.out(r.up, udp(alice, bob, 53, 9)), DropRevoked)
	r.want(r.in(r.up, udp(bob, alice, 9, 53)), DropRevoked)
}

func TestASynAcknowledgementOpensNothing(t *testing.T) {
	r, allow, deny := inbound(t)
	answer := tcp(alice, bob, 80, 9, "SA", 700, 101)
	r.workload(r.v1, 5, deny, allow)
	r.want(r.in(r.v1, answer), DropPolicy) // alice may open connections, but this one was not hers
	r.workload(r.v1, 5, allow, deny)
	r.want(r.in(r.v1, answer), DropPolicy)
	r.workload(r.v1, 5, allow, allow)
	r.want(r.in(r.v1, answer), PassPolicy)
	if c := r.connection(); c.Opener.Addr() != addr(bob) || c.Approvals[1].Stage != layout.StageNormalIn {
		t.Errorf("%+v, want it opened by %s", c, bob)
	}
	r.want(r.out(r.v1, tcp(bob, alice, 9, 80, "A", 101, 701)), PassFlow)
	r.workload(r.v1, 5, deny, allow)
	r.shared.AdvanceEpoch()
	r.want(r.in(r.v1, tcp(alice, bob, 80, 9, "A", 701, 101)), DropRevoked)
}

func TestASynDoesNotTurnTheDirectionOfAConnection(t *testing.T) {
	r, allow, deny := inbound(t)
	r.want(r.out(r.v1, tcp(bob, alice, 9, 80, "S", 100, 0)), PassPolicy)
	r.want(r.in(r.v1, tcp(alice, bob, 80, 9, "SA", 700, 101)), PassFlow)
	r.want(r.out(r.v1, tcp(bob, alice, 9, 80, "A", 101, 701)), PassFlow)
	r.want(r.in(r.v1, tcp(alice, bob, 80, 9, "S", 5000, 0)), PassPolicy)
	r.want(r.out(r.v1, tcp(bob, alice, 9, 80, "A", 101, 701)), PassFlow)
	r.workload(r.v1, 5, deny, allow)
	r.shared.AdvanceEpoch()
	r.want(r.in(r.v1, tcp(alice, bob, 80, 9, "A", 701, 101)), DropRevoked)
	r.want(r.out(r.v1, tcp(bob, alice, 9, 80, "A", 101, 701)), DropRevoked)
}

// Without an entry, the end with the lesser port is taken for the replier, if policy leaves a choice.
func TestDirectionOfAConnectionWhoseOpeningWasNotSeen(t *testing.T) {
	r, allow, deny := inbound(t)
	for _, c := range []struct {
		name     string
		in, out  uint32
		port     uint16 // of alice; bob's is 5000
		want     Reason // of alice's segment
		openedBy string
	}{
		{"her lesser port", allow, allow, 80, PassPolicy, bob},
		{"her greater port", allow, allow, 9000, PassPolicy, alice},
		{"her lesser port, nobody may reach her", deny, allow, 80, PassPolicy, alice},
		{"she may open nothing", allow, deny, 80, DropPolicy, ""},
	} {
		r.name = c.name
		r.forgetAll()
		r.workload(r.v1, 5, c.in, c.out)
		r.want(r.in(r.v1, tcp(alice, bob, c.port, 5000, "A", 701, 101)), c.want)
		if c.openedBy == "" {
			continue
		}
		r.want(r.out(r.v1, tcp(bob, alice, 5000, c.port, "A", 101, 701)), PassFlow)
		if got := r.connection(); got.Opener.Addr() != addr(c.openedBy) {
			t.Errorf("%s: %+v, want it opened by %s", c.name, got, c.openedBy)
		}
	}
}

// An answer that comes while its connection moves among the proven finds it in one table or the other.
func TestAnswersFindAConnectionThatMoves(t *testing.T) {
	const rounds, answers = 200, 20_000
	r, allow, deny := inbound(t)
	r.workload(r.v1, 5, allow, deny)
	question := Run{Hook: Egress, Ifindex: r.v1, Inner: 77, Packet: udp(bob, alice, 9, 53)}
	answer := Run{Hook: Ingress, Ifindex: r.v1, Packet: udp(alice, bob, 53, 9)}
	for range rounds {
		must(t, r.repeat(question, 1))
		must(t, r.repeat(answer, 1))
		done := make(chan error)
		go func() { done <- r.on.Do(func() error { return r.repeat(answer, answers) }) }()
		lab.LetPass(time.Duration(rand.IntN(3000)) * time.Microsecond) // until some of them are judged
		must(t, r.repeat(question, 1))                                 // proves the connection
		must(t, <-done)
		r.forgetAll()
	}
	counts, err := r.shared.ReasonCounts()
	must(t, err)
	if n := counts[DropPolicy].Packets; n != 0 {
		t.Errorf("%d answers were taken for new connections", n)
	}
}

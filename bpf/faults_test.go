package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/internal/lab"
)

// fill puts entries until the table is full and says how many it took.
func fill(t *testing.T, most int, put func(n int) error) int {
	t.Helper()
	for n := range most + 1 {
		err := put(n)
		if err == nil {
			continue
		}
		if !IsFull(err) || !strings.Contains(err.Error(), "full at") {
			t.Errorf("entry %d: %v, want it to say that the table is full", n, err)
		}
		return n
	}
	t.Errorf("took more than %d entries", most)
	return most
}

func TestFullTablesRefuseNewEntriesAndKeepOldOnes(t *testing.T) {
	r := newRigOf(t, Sizes{Blocks: 1, Vectors: 64, Chunks: 64, Hosts: 4, Nets: 4, Interfaces: 4, Sources: 4},
		SharedSizes{Flows: 16, NewFlows: 16})
	host := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}) }
	network := func(n int) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n), 0, 0}), 16) }
	source := func(n int) layout.SourceKey { return layout.SourceKey{Ifindex: 1, Addr: Address(host(n))} }
	for name, put := range map[string]func(n int) error{
		"hosts":      func(n int) error { return r.PutHost(host(n), 1, 2) },
		"nets":       func(n int) error { return r.PutNet(network(n), 1, 2) },
		"interfaces": func(n int) error { return r.Interfaces.Put(uint32(n), layout.Iface{Ifindex: uint32(n)}) },
		"sources":    func(n int) error { return r.Sources.Put(source(n), 1) },
	} {
		if n := fill(t, 4, put); n != 4 {
			t.Errorf("%s: took %d entries, want 4", name, n)
		}
		if err := put(2); err != nil {
			t.Errorf("%s: an entry of a full table cannot change: %v", name, err)
		}
	}
	must(t, r.DeleteHost(host(0)))
	must(t, r.DeleteNet(network(0)))
	must(t, r.PutHost(host(9), 1, 2))
	must(t, r.PutNet(network(9), 1, 2))
}

func TestInterfaceOrSourceWithoutRoomIsClosed(t *testing.T) {
	r := newRouter(t)
	allow := r.allowAll()
	fill(t, int(r.Sizes.Interfaces), func(n int) error {
		return r.Interfaces.Put(100_000+uint32(n), layout.Iface{Ifindex: 100_000 + uint32(n)})
	})
	r.want(r.in(r.v1, udp(alice, bob, 1, 2)), DropNoInterface)
	must(t, r.Interfaces.Delete(100_000))
	r.workload(r.v1, 5, allow, allow)
	fill(t, int(r.Sizes.Sources), func(n int) error {
		return r.Sources.Put(layout.SourceKey{Ifindex: uint32(n)}, 1)
	})
	r.want(r.in(r.v1, udp(alice, bob, 1, 2)), DropSource)
}

func TestRuleWithoutCounterStillDecides(t *testing.T) {
	r := outbound(t)
	full := fill(t, int(r.shared.maps["rule_hits"].MaxEntries()), func(n int) error {
		var err error
		lab.Await(t, func() error {
			// The kernel gets memory of each processor in the background, and answers ENOMEM until it has more.
			if err = r.shared.CreateRule(uint64(5000 + n)); errors.Is(err, unix.ENOMEM) {
				return err
			}
			return nil
		})
		return err
	})
	if full == 0 {
		t.Error("no rule has a counter")
	}
	r.want(r.in(r.v1, udp(alice, bob, 1, 2)), PassPolicy)
	r.want(r.out(r.v1, udp(bob, alice, 3, 4)), DropPolicy)
	if h, err := r.shared.RuleHits(1000); err != nil || h.Packets != 0 {
		t.Errorf("%+v, %v", h, err)
	}
}

// repeat judges a packet many times.
func (g *Generation) repeat(r Run, times uint32) error {
	_, err := g.program(r.Hook).Run(&ebpf.RunOptions{Data: r.Packet, Context: g.context(r), Repeat: times})
	return err
}

func TestFullBufferOfEventsChangesNoVerdict(t *testing.T) {
	r := outbound(t)
	r.shared.Settings.EventGap = 0
	r.shared.Settings.LogLevel = layout.LogVerdicts
	must(t, r.repeat(Run{Hook: Egress, Ifindex: r.v1, Inner: 77, Packet: udp(bob, alice, 3, 4)}, 20_000))
	counts, err := r.shared.ReasonCounts()
	must(t, err)
	if counts[NoteEventLost].Packets == 0 {
		t.Error("nobody was told that events are lost")
	}
	r.want(r.out(r.v1, udp(bob, alice, 3, 4)), DropPolicy)
	r.want(r.in(r.v1, udp(alice, bob, 1, 2)), PassPolicy)
	events, err := r.shared.ReadEvents()
	must(t, err)
	defer events.Close()
	events.SetDeadline(time.Now().Add(10 * time.Second))
	if e, err := events.Next(); err != nil || e.Kind != EventDrop {
		t.Errorf("%+v, %v", e, err)
	}
}

// next loads another generation beside the one of a router, over the same state.
func (r *router) next() *rig {
	r.Helper()
	g, err := LoadTraced(r.shared, smallSizes())
	must(r, err)
	r.Cleanup(func() { must(r, g.Close()) })
	return &rig{TB: r.TB, Generation: g, shared: r.shared, nextVector: 1}
}

// TestAlternatingGenerationsJudgeEveryPacketAlike runs two generations with one policy on one connection at once,
// while everything that may change under them does: links, the epoch, the tables of connections.
func TestAlternatingGenerationsJudgeEveryPacketAlike(t *testing.T) {
	const rounds, each = 50, 1000
	r := outbound(t)
	other := r.next()
	other.workload(r.v1, 5, other.denyAll(), other.allowAll(), alice)
	at, err := r.Attach(r.dir, r.v1)
	must(t, err)
	defer at.Detach()
	allowed := Run{Hook: Ingress, Ifindex: r.v1, Packet: udp(alice, bob, 9, 53)}
	denied := Run{Hook: Egress, Ifindex: r.v1, Inner: 77, Packet: udp(bob, alice, 1, 2)}
	r.want(r.in(r.v1, allowed.Packet), PassPolicy)
	before, err := r.shared.ReasonCounts()
	must(t, err)

	var runs sync.WaitGroup
	for _, g := range []*Generation{r.Generation, other.Generation} {
		runs.Go(func() {
			err := r.on.Do(func() (err error) {
				for range rounds {
					err = errors.Join(err, g.repeat(allowed, each), g.repeat(denied, each))
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { runs.Wait(); close(done) }()
	for turn := 0; ; turn++ {
		must(t, at.Swap([]*Generation{other.Generation, r.Generation}[turn%2]))
		r.shared.AdvanceEpoch()
		if turn%8 == 0 {
			_, err := r.Sweep()
			must(t, err)
			r.forgetAll()
		}
		select {
		case <-done:
		default:
			continue
		}
		break
	}
	counts, err := r.shared.ReasonCounts()
	must(t, err)
	passed := counts[PassFlow].Packets + counts[PassPolicy].Packets - before[PassFlow].Packets - before[PassPolicy].Packets
	dropped := counts[DropPolicy].Packets - before[DropPolicy].Packets
	if passed != 2*rounds*each || dropped != 2*rounds*each {
		t.Errorf("%d passed and %d dropped, want %d each", passed, dropped, 2*rounds*each)
	}
}

func TestSwapThatFailsOnOneSideCanBeDoneAgain(t *testing.T) {
	r := outbound(t)
	other := r.next()
	other.workload(r.v1, 5, other.denyAll(), other.allowAll(), alice)
	at, err := r.Attach(r.dir, r.v1)
	must(t, err)
	must(t, at.links[Egress].Close())
	if err := at.Swap(other.Generation); err == nil || !strings.Contains(err.Error(), "swap the program at egress of interface") {
		t.Errorf("%v, want it to name the side that failed", err)
	}
	for hook, g := range []*Generation{other.Generation, r.Generation} {
		if got, want := attachedProgram(t, r.v1, Hook(hook)), programID(t, g.program(Hook(hook))); got != want {
			t.Errorf("%s runs program %d, want %d", Hook(hook), got, want)
		}
	}
	at.links[Egress] = nil
	must(t, at.Close())
	again, err := other.Attach(r.dir, r.v1)
	must(t, err)
	defer again.Detach()
	if !again.Adopted {
		t.Error("the links were not adopted")
	}
	for _, hook := range []Hook{Ingress, Egress} {
		if got, want := attachedProgram(t, r.v1, hook), programID(t, other.program(hook)); got != want {
			t.Errorf("%s runs program %d, want %d", hook, got, want)
		}
	}
}

func attachedProgram(t *testing.T, ifindex uint32, hook Hook) ebpf.ProgramID {
	t.Helper()
	q, err := link.QueryPrograms(link.QueryOptions{Target: int(ifindex), Attach: hook.attachType()})
	must(t, err)
	if len(q.Programs) != 1 {
		t.Fatalf("%s of interface %d runs %d programs, want one", hook, ifindex, len(q.Programs))
	}
	return q.Programs[0].ID
}

func programID(t *testing.T, p *ebpf.Program) ebpf.ProgramID {
	t.Helper()
	info, err := p.Info()
	must(t, err)
	id, _ := info.ID()
	return id
}

func TestInterfaceThatVanishesUnderItsPrograms(t *testing.T) {
	r := outbound(t)
	other := r.next()
	at, err := r.Attach(r.dir, r.v1)
	must(t, err)
	l, err := netlink.LinkByIndex(int(r.v1))
	must(t, err)
	must(t, netlink.LinkDel(l))
	if at.Live() {
		t.Error("alive without an interface")
	}
	if err := at.Swap(other.Generation); err == nil {
		t.Error("swapped the program of an interface that has vanished")
	}
	must(t, at.Detach())
	if live, err := Attached(r.dir); err != nil || len(live) != 0 {
		t.Errorf("left behind: %v, %v", live, err)
	}
	_, err = r.Sweep()
	must(t, err)
}

// Without file descriptors no link can be opened. Attached links must stay, and not be taken for old ones.
func TestLinkThatCannotBeOpenedStays(t *testing.T) {
	r := outbound(t)
	at, err := r.Attach(r.dir, r.v1)
	must(t, err)
	must(t, at.Close())
	for _, err := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if !isTransient(fmt.Errorf("open: %w", err)) {
			t.Errorf("%v is taken for a sign of a stale pin", err)
		}
	}
	must(t, Detach(r.dir, r.v1))
}

// More counters in a row than the kernel has memory of each processor at hand: those that it refuses are refused at once
// and by themselves, and come when they are asked for again.
func TestCountersSucceedAfterAShortageOfMemory(t *testing.T) {
	r := newRigOf(t, smallSizes(), SharedSizes{Flows: 16, NewFlows: 64})
	missing := map[uint64]bool{}
	for id := range uint64(60_000) {
		missing[id] = true
	}
	want, refused := len(missing), 0
	lab.Await(t, func() error {
		for id := range missing {
			switch err := r.shared.CreateRule(id); {
			case err == nil:
				delete(missing, id)
			case errors.Is(err, unix.ENOMEM):
				refused++
			default:
				t.Fatal(err)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("%d are still missing", len(missing))
		}
		return nil
	})
	t.Logf("refused %d times", refused)
	if hits, err := r.shared.AllRuleHits(); err != nil || len(hits) != want {
		t.Errorf("%d counters, want %d; %v", len(hits), want, err)
	}
}

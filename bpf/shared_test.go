package bpf

import (
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf/layout"
)

func TestStateOutlivesTheAgent(t *testing.T) {
	dir := pinDir(t)
	first, err := OpenShared(dir, SharedSizes{Flows: 512, NewFlows: 128})
	must(t, err)
	first.Settings.Mark = 0x100
	epoch := first.AdvanceEpoch()
	must(t, first.CreateRule(4))
	must(t, first.Close())
	again, err := OpenShared(dir, SharedSizes{Flows: 9999, NewFlows: 9999})
	must(t, err)
	defer again.Close()
	if again.Epoch() != epoch || again.Settings.Mark != 0x100 {
		t.Errorf("epoch %d, mark %#x", again.Epoch(), again.Settings.Mark)
	}
	if hits, err := again.AllRuleHits(); err != nil || len(hits) != 1 {
		t.Errorf("%v, %v", hits, err)
	}
	if s := again.FlowSizes(); s.Flows != 512 || s.NewFlows != 128 {
		t.Errorf("a restart changed the sizes to %+v", s)
	}
	must(t, again.Unpin())
	if names, err := filepath.Glob(dir + "/*_*"); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestSharedStateNeedsABPFFileSystem(t *testing.T) {
	_, err := OpenShared(t.TempDir(), DefaultSharedSizes())
	if err == nil || !strings.Contains(err.Error(), "mount one there") {
		t.Error(err)
	}
}

func TestGenerationsShareConnections(t *testing.T) {
	r := outbound(t)
	r.in(r.v1, udp(alice, bob, 9, 53))
	g, err := LoadTraced(r.shared, smallSizes())
	must(t, err)
	defer g.Close()
	next := &router{rig: &rig{TB: t, Generation: g, shared: r.shared, nextVector: 1}, v1: r.v1}
	next.workload(next.v1, 5, next.denyAll(), next.allowAll(), alice)
	next.want(next.out(next.v1, udp(bob, alice, 53, 9)), PassFlow)
	next.shared.AdvanceEpoch()
	next.want(next.out(next.v1, udp(bob, alice, 53, 9)), PassPolicy)
}

func TestEventsTellVerdicts(t *testing.T) {
	r := outbound(t)
	events, err := r.shared.ReadEvents()
	must(t, err)
	r.shared.Settings.LogLevel = layout.LogVerdicts
	r.in(r.v1, udp(alice, bob, 9, 53))
	r.out(r.v1, udp(bob, alice, 54, 9))
	r.workload(r.v1, 5, 0, r.mask(rule{id: 77, action: layout.ActionLog}, rule{id: 78, action: layout.ActionDeny}))
	r.shared.Settings.LogLevel = layout.LogRules
	r.in(r.v1, udp(alice, bob, 10, 53))
	events.SetDeadline(time.Now().Add(10 * time.Second))
	for _, want := range []Event{
		{Kind: EventAllow, Reason: PassPolicy, Rule: 1000, Hook: Ingress, Stage: layout.StageNormalOut},
		{Kind: EventDrop, Reason: DropPolicy, Rule: 1001, Hook: Egress, Stage: layout.StageNormalIn},
		{Kind: EventLog, Reason: PassPolicy, Rule: 77, Hook: Ingress, Stage: layout.StageNormalOut},
	} {
		e, err := events.Next()
		must(t, err)
		if e.Kind != want.Kind || e.Reason != want.Reason || e.Rule != want.Rule || e.Hook != want.Hook ||
			e.Stage != want.Stage || e.Ifindex != r.v1 || e.Endpoint != 5 || e.Proto != 17 {
			t.Errorf("%+v, want %+v", e, want)
		}
	}
	must(t, events.Close())
	if _, err := events.Next(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestAFloodOfDropsIsNotAFloodOfEvents(t *testing.T) {
	const burst, flood = 10, 100
	r := outbound(t)
	r.shared.Settings.EventGap = uint64(time.Second) / burst
	events, err := r.shared.ReadEvents()
	must(t, err)
	defer events.Close()
	for range flood {
		r.want(r.out(r.v1, udp(bob, alice, 54, 9)), DropPolicy)
	}
	told := 0
	for events.SetDeadline(time.Now()); err == nil; told++ {
		_, err = events.Next()
	}
	told--
	counts, err := r.shared.ReasonCounts()
	must(t, err)
	if told < burst || told > 2*burst*runtime.NumCPU() || counts[NoteEventLeftOut].Packets != uint64(flood-told) {
		t.Errorf("%d events told, %d left out", told, counts[NoteEventLeftOut].Packets)
	}
	r.shared.Settings.EventGap = 0
	r.out(r.v1, udp(bob, alice, 54, 9))
	events.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := events.Next(); err != nil {
		t.Error(err)
	}
}

func TestCountersOfAnotherNumberOfReasonsAreApart(t *testing.T) {
	spec, err := loadProgram()
	must(t, err)
	reasons := spec.Maps["reasons"]
	before := layoutOf(reasons)
	reasons.MaxEntries++
	if layoutOf(reasons) == before {
		t.Error("counters of other reasons would be read as those of ours")
	}
}

func TestSizesAreChecked(t *testing.T) {
	dir := pinDir(t)
	shared, err := OpenShared(dir, SharedSizes{Flows: 16, NewFlows: 16})
	must(t, err)
	defer shared.Close()
	for _, blocks := range []uint32{0, layout.MaxBlocks + 1} {
		if _, err := LoadGeneration(shared, Sizes{Blocks: blocks}); err == nil {
			t.Errorf("%d blocks were taken", blocks)
		}
	}
	sizes := smallSizes()
	sizes.Blocks, sizes.Hosts = layout.MaxBlocks, 2
	g, err := LoadGeneration(shared, sizes)
	must(t, err)
	defer g.Close()
	if len(g.Slots) != layout.MaxBlocks*layout.BlockSlots || len(g.Vectors) != layout.MaxBlocks*64 || len(g.Wild) != layout.MaxBlocks {
		t.Errorf("%d slots, %d vectors, %d wild", len(g.Slots), len(g.Vectors), len(g.Wild))
	}
	if len(g.Services) != int(layout.Services) || len(g.SourcePorts) != int(layout.SourcePorts) {
		t.Errorf("%d services, %d source ports", len(g.Services), len(g.SourcePorts))
	}
	must(t, g.PutHost(addr("10.0.0.1"), 1, 2))
	must(t, g.PutHost(addr("10.0.0.2"), 1, 2))
	if err := g.PutHost(addr("10.0.0.3"), 1, 2); !IsFull(err) || !strings.Contains(err.Error(), "full at 2 entries") {
		t.Error(err)
	}
	all, failed := g.Hosts.All()
	n := 0
	for range all {
		n++
	}
	if n != 2 || failed() != nil {
		t.Errorf("read %d back, %v", n, failed())
	}
}

func TestTwinAnswersWithoutEffect(t *testing.T) {
	r := outbound(t)
	twin, err := r.Twin()
	must(t, err)
	defer twin.Close()
	for range 2 {
		o, err := twin.Run(Run{Hook: Ingress, Ifindex: r.v1, Packet: udp(alice, bob, 9, 53)})
		must(t, err)
		if o.Reason != PassPolicy || o.Rule != 1000 {
			t.Errorf("%+v", o)
		}
	}
	r.workload(r.v1, 5, 0, r.denyAll())
	o, err := twin.Run(Run{Hook: Ingress, Ifindex: r.v1, Packet: udp(alice, bob, 9, 53)})
	must(t, err)
	if o.Reason != DropPolicy || o.Rule != 1001 {
		t.Errorf("%+v: the twin has other tables", o)
	}
	if n := len(r.connections()); n != 0 {
		t.Errorf("%d connections, want none", n)
	}
	counts, err := r.shared.ReasonCounts()
	must(t, err)
	if counts[DropPolicy].Packets != 0 {
		t.Error("the twin counted a packet")
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for err, want := range map[error]string{
		unix.EPERM:           "run as root",
		unix.ENOMEM:          "not enough memory",
		ebpf.ErrNotSupported: "6.6 or newer",
	} {
		if got := explain("load", err); !strings.Contains(got.Error(), want) || !errors.Is(got, err) {
			t.Errorf("%v, want %q in it", got, want)
		}
	}
	if got := explainTCX(unix.EINVAL); !strings.Contains(got.Error(), "lacks tcx") {
		t.Error(got)
	}
	if err := MountFS("/proc/margay"); err == nil {
		t.Error("mounted where nothing can be made")
	}
}

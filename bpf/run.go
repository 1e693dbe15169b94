package bpf

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/margay-project/margay/bpf/layout"
)

// Hook is one of the two places at an interface where programs judge packets.
type Hook uint8

const (
	Ingress Hook = iota // into this host: from the wire, or from a workload
	Egress              // out of this host: to the wire, or to a workload
)

func (h Hook) String() string {
	if h == Egress {
		return "egress"
	}
	return "ingress"
}

// Offsets of fields in struct __sk_buff that a test run may set, or that it shows.
const (
	skbMark           = 8
	skbIngressIfindex = 36
	skbIfindex        = 40
	skbSize           = 192
)

// Run is a packet for a test run, and where it passes.
type Run struct {
	Hook    Hook
	Ifindex uint32 // 1 (loopback), or an interface of the calling thread's network namespace
	Inner   uint32 // at Egress: the interface by which the packet entered this host; 0: this host sends it
	Packet  []byte // from the Ethernet header on
}

// Outcome is the verdict on the packet of a Run.
type Outcome struct {
	Allowed bool
	Rule    uint64 // number of the rule that decided; 0: none
	Reason  Reason
	Stage   int    // layout.StageNormalIn and the like
	Mark    uint32 // of the packet afterwards
}

// Run judges a packet by the loaded program, with all effects on connections and counters. Rule, Reason and Stage are
// set only by a traced generation (LoadTraced), as long as it is not attached and nobody else runs it.
func (g *Generation) Run(r Run) (Outcome, error) {
	program := g.objects.Ingress
	if r.Hook == Egress {
		program = g.objects.Egress
	}
	out := make([]byte, skbSize)
	code, err := program.Run(&ebpf.RunOptions{Data: r.Packet, Context: g.context(r), ContextOut: out})
	if err != nil {
		return Outcome{}, explain("run the packet program", err)
	}
	last := g.last[0]
	return Outcome{
		Allowed: int32(code) == tcxNext,
		Rule:    last.Rule,
		Reason:  Reason(last.Reason),
		Stage:   int(last.Stage),
		Mark:    binary.NativeEndian.Uint32(out[skbMark:]),
	}, nil
}

// context is the struct __sk_buff of a test run: the properties of a packet besides its bytes.
func (g *Generation) context(r Run) []byte {
	in := make([]byte, skbSize)
	binary.NativeEndian.PutUint32(in[skbIfindex:], r.Ifindex)
	binary.NativeEndian.PutUint32(in[skbIngressIfindex:], r.Inner)
	if r.Hook == Egress && r.Inner == 0 { // the socket of a test run proves nothing: the mark does
		binary.NativeEndian.PutUint32(in[skbMark:], g.settings[0].HostMark)
	}
	return in
}

const tcxNext = -1

// Swept is the result of a Sweep.
type Swept struct {
	Removed  uint64 // connections that had expired
	Proven   uint64 // connections that are left
	Unproven uint64 // connections that are left
}

// Sweep deletes the connections that have expired, which count as absent before that, and counts the rest. It also
// divides the table of unproven connections anew among the openers, and notes when the crowd's table is empty.
func (g *Generation) Sweep() (Swept, error) {
	crowding := &g.shared.Settings.Crowding
	atomic.CompareAndSwapUint32(crowding, uint32(layout.Crowded), uint32(layout.CrowdAging))
	out, err := runTimed[layout.SweepResult](g.objects.Sweep)
	if err != nil {
		return Swept{}, explain("sweep connections", err)
	}
	if out.Crowd == 0 { // a program that has put something there meanwhile has written CROWDED
		atomic.CompareAndSwapUint32(crowding, uint32(layout.CrowdAging), uint32(layout.CrowdNone))
	}
	g.shared.setOpeningShare(out.Openers)
	return Swept{Removed: out.Removed, Proven: out.Proven, Unproven: out.Unproven}, nil
}

// Drained is the result of a Drain.
type Drained struct {
	Moved uint64
	Left  uint64 // connections that stay, because there is no room for them
}

// Drain moves connections from the old set of tables to the current one. Call it after DrainFlows, once no program runs
// any more that began before.
func (g *Generation) Drain() (Drained, error) {
	out, err := runTimed[layout.DrainResult](g.objects.Drain)
	if err != nil {
		return Drained{}, explain("move connections to tables of another size", err)
	}
	return Drained{Moved: out.Moved, Left: out.Left}, nil
}

// runTimed runs a program whose context is a T that begins with the time, and returns the context.
func runTimed[T any](program *ebpf.Program) (result T, err error) {
	now, err := coarseNow()
	if err != nil {
		return result, err
	}
	size := binary.Size(result)
	in, out := make([]byte, size), make([]byte, size)
	binary.NativeEndian.PutUint64(in, uint64(now))
	if _, err := program.Run(&ebpf.RunOptions{Context: in, ContextOut: out}); err != nil {
		return result, err
	}
	_, err = binary.Decode(out, binary.NativeEndian, &result)
	return result, err
}

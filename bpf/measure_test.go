package bpf

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/margay-project/margay/bpf/layout"
)

//go:generate go tool bpf2go -tags linux -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Werror -mcpu=v3 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" -type packet -type probe -type rotation measure measure.c

// Measure has the programs that only tests and benchmarks run, over the policy tables of a generation.
type Measure struct {
	loadedMeasure
	probe *measureProbe // in the kernel's memory
	turn  *measureRotation
}

type loadedMeasure struct {
	measurePrograms
	Rotations *ebpf.Map `ebpf:"rotations"`
	Rotated   *ebpf.Map `ebpf:"rotated"`
	Probes    *ebpf.Map `ebpf:"probes"`
}

// NewMeasure loads the programs of a test.
func NewMeasure(t testing.TB, g *Generation) *Measure {
	t.Helper()
	spec, err := loadMeasure()
	must(t, err)
	must(t, spec.Variables["blocks"].Set(g.Sizes.Blocks))
	maps := &g.objects.programMaps
	tables := map[string]*ebpf.Map{
		"slots": maps.Slots, "vectors": maps.Vectors, "chunks": maps.Chunks, "wilds": maps.Wilds,
		"services": maps.Services, "source_ports": maps.SourcePorts, "hosts": maps.Hosts, "nets": maps.Nets,
	}
	for name, m := range tables {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	m := &Measure{}
	must(t, spec.LoadAndAssign(&m.loadedMeasure, &ebpf.CollectionOptions{MapReplacements: tables}))
	probes, probesMapping, err := mapArray[measureProbe](m.Probes, "probes")
	must(t, err)
	turns, turnsMapping, err := mapArray[measureRotation](m.Rotations, "rotations")
	must(t, err)
	m.probe, m.turn = &probes[0], &turns[0]
	t.Cleanup(func() {
		must(t, errors.Join(probesMapping.close(), turnsMapping.close(), m.measurePrograms.Close(),
			m.Rotations.Close(), m.Rotated.Close(), m.Probes.Close()))
	})
	return m
}

// Query is the part of a packet that a rule can see.
type Query struct {
	Source, Dest         netip.Addr
	Proto                uint8
	SourcePort, DestPort uint16
	ICMPType, ICMPCode   uint8
}

// Judgement is the answer of the rules of a mask.
type Judgement uint32

// The judgements.
const (
	Undecided   = Judgement(layout.JudgeUndecided)
	JudgedAllow = Judgement(layout.JudgeAllow)
	JudgedDeny  = Judgement(layout.JudgeDeny)
)

func (j Judgement) String() string {
	switch j {
	case JudgedAllow:
		return "allow"
	case JudgedDeny:
		return "deny"
	}
	return "undecided"
}

// Classify asks the loaded classifier which rule of a mask decides a packet; 0: none. It has no effect on the
// generation's connections, counters and events.
func (m *Measure) Classify(mask uint32, q Query) (j Judgement, rule uint64, err error) {
	*m.probe = measureProbe{Mask: mask, Packet: q.packet()}
	code, err := m.ClassifyOnly.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	if err != nil {
		return Undecided, 0, explain("ask the classifier", err)
	}
	return Judgement(code), m.probe.Rule, nil
}

// packet is one of no segments: none that came by.
func (q Query) packet() measurePacket {
	return measurePacket{
		Src: Address(q.Source), Dst: Address(q.Dest), Proto: q.Proto,
		Sport: hostOrder(q.SourcePort), Dport: hostOrder(q.DestPort),
		IcmpType: q.ICMPType, IcmpCode: q.ICMPCode,
	}
}

package bpf

import (
	"net/netip"

	"github.com/cilium/ebpf"
)

// Query is what a rule can see of a packet.
type Query struct {
	Source, Dest         netip.Addr
	Proto                uint8
	SourcePort, DestPort uint16
	ICMPType, ICMPCode   uint8
}

// Judgement is what the rules of a mask say.
type Judgement uint32

// The judgements.
const (
	Undecided   = Judgement(programJudgementJUDGE_UNDECIDED)
	JudgedAllow = Judgement(programJudgementJUDGE_ALLOW)
	JudgedDeny  = Judgement(programJudgementJUDGE_DENY)
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

// Classify asks the loaded classifier which rule of a mask decides a packet; 0: none. It has no effect on
// connections, counters and events, so that a generation can be verified before it is attached, and at any time
// after. It has one caller at a time.
func (g *Generation) Classify(mask uint32, q Query) (j Judgement, rule uint64, err error) {
	probe := &g.probes[0]
	*probe = Probe{Mask: mask, Packet: q.packet()}
	code, err := g.objects.ClassifyOnly.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	if err != nil {
		return Undecided, 0, explain("ask the classifier", err)
	}
	return Judgement(code), probe.Rule, nil
}

// packet is one of no segments: none that came by.
func (q Query) packet() Packet {
	return Packet{
		Src: Address(q.Source), Dst: Address(q.Dest), Proto: q.Proto,
		Sport: hostOrder(q.SourcePort), Dport: hostOrder(q.DestPort),
		IcmpType: q.ICMPType, IcmpCode: q.ICMPCode,
	}
}

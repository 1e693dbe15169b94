package classifier

import (
	"math/bits"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// Searcher looks packets up in the tables as the program does.
type Searcher struct {
	Memory    *Memory
	Addresses Addresses
}

// Result is the verdict of a search.
type Result struct {
	Action api.Action // Allow or Deny; empty: no rule decided
	Rule   uint64     // number of the rule that decided; 0: none
	Passed []uint64   // rules with Pass, in order
	Logged []uint64   // rules with Log, in order
	Lost   bool       // the search went on too often, and no rule decided: the program drops the packet
}

// dims are the vectors of a packet.
type dims [layout.Dims]uint32

// classify returns the vectors of the packet's classes.
func (v Searcher) classify(p calc.Packet) dims {
	var d dims
	d[layout.DimSource], _ = v.Addresses.Vectors(p.Source)
	_, d[layout.DimDest] = v.Addresses.Vectors(p.Destination)
	d[layout.DimService] = v.Memory.Services[Service(p)]
	d[layout.DimSourcePort] = v.Memory.SourcePorts[SourcePort(p)]
	return d
}

// Lookup returns the first slot of a mask that matches a packet.
func (v Searcher) Lookup(mask uint32, p calc.Packet) (slot uint32, ok bool) {
	return v.first(mask, v.classify(p), 0)
}

// Verdict searches until a rule decides. A Pass goes on at its target, a Log at the next slot.
func (v Searcher) Verdict(mask uint32, p calc.Packet) Result { return v.follow(mask, v.classify(p)) }

func (v Searcher) follow(mask uint32, d dims) (r Result) {
	from := uint32(0)
	for range maxContinuations + 1 {
		slot, ok := v.first(mask, d, from)
		if !ok {
			return r
		}
		s := v.Memory.Slots[slot]
		switch s.Action {
		case layout.ActionAllow:
			r.Action, r.Rule = api.Allow, s.Rule
			return r
		case layout.ActionPass:
			r.Passed, from = append(r.Passed, s.Rule), s.Next
		case layout.ActionLog:
			r.Logged, from = append(r.Logged, s.Rule), slot+1
		default:
			r.Action, r.Rule = api.Deny, s.Rule
			return r
		}
	}
	r.Lost = true
	return r
}

// first returns the first slot, not below from, that the mask has and whose rule the packet meets. It is the search of
// classify.h: a summary word says which words of a block can contain such a slot.
func (v Searcher) first(mask uint32, d dims, from uint32) (uint32, bool) {
	m := v.Memory
	used := layout.Dims // dimensions that the mask's rules ask for; the source port is the last one
	if m.Vectors[int(mask)*m.Blocks].SourcePorts == 0 {
		used = layout.DimSourcePort
	}
	for b := int(from) / layout.BlockSlots; b < m.Blocks; b++ {
		wild, vector := &m.Wild[b], &m.Vectors[int(mask)*m.Blocks+b]
		summary := vector.Summary
		for dim := range used {
			summary &= wild.Summary[dim] | m.Vectors[int(d[dim])*m.Blocks+b].Summary
		}
		for ; summary != 0; summary &= summary - 1 {
			w := bits.TrailingZeros64(summary)
			at := uint32(b*layout.BlockSlots + w*64)
			if at+64 <= from {
				continue
			}
			match := m.Chunks[vector.Chunk].Words[w].Pos
			for dim := range used {
				c := &m.Chunks[m.Vectors[int(d[dim])*m.Blocks+b].Chunk].Words[w]
				match &= (wild.Words[w][dim] | c.Pos) &^ c.Veto
			}
			if from > at {
				match &= ^uint64(0) << (from - at)
			}
			if match != 0 {
				return at + uint32(bits.TrailingZeros64(match)), true
			}
		}
	}
	return 0, false
}

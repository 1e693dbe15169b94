package classifier

import (
	"fmt"
	"strings"

	"github.com/margay-project/margay/bpf/layout"
)

// Memory is the arrays that the program reads. In production they are BPF arrays that are mapped to memory. They must
// be zero at first.
//
// The classifier is the only writer, and writes while the program reads: with atomic stores, in an order in which each
// packet sees the old tables or the new ones.
type Memory struct {
	Slots       []layout.Slot   // by slot; Blocks * layout.BlockSlots
	Vectors     []layout.Vector // block b of vector v is v*Blocks+b
	Chunks      []layout.Chunk  // by the number in a Vector
	Wild        []layout.Wild   // by block
	Services    []uint32        // by point, see Service: the vector of its class
	SourcePorts []uint32        // by point, see SourcePort
	Blocks      int

	stored func() // for a test: is called after each store that a packet could see
}

// store is called after each store, or group of stores, that a packet could see.
func (m *Memory) store() {
	if m.stored != nil {
		m.stored()
	}
}

// NewMemory returns ordinary memory, for tests and estimates.
func NewMemory(s Sizes) *Memory {
	return &Memory{
		Slots:       make([]layout.Slot, s.Blocks*layout.BlockSlots),
		Vectors:     make([]layout.Vector, s.Vectors*s.Blocks),
		Chunks:      make([]layout.Chunk, s.Chunks),
		Wild:        make([]layout.Wild, s.Blocks),
		Services:    make([]uint32, pages(layout.Services)),
		SourcePorts: make([]uint32, pages(layout.SourcePorts)),
		Blocks:      s.Blocks,
	}
}

// pages rounds a number of points up to whole pages of layout.PagePoints.
func pages(points uint32) uint32 {
	return (points + layout.PagePoints - 1) / layout.PagePoints * layout.PagePoints
}

// check returns an error if an array is too short for Blocks.
func (m *Memory) check() error {
	var wrong []string
	expect := func(what string, have, want int) {
		if have < want {
			wrong = append(wrong, fmt.Sprintf("%s has %d entries, not %d", what, have, want))
		}
	}
	if m.Blocks < 1 || m.Blocks > layout.MaxBlocks {
		return fmt.Errorf("memory of the classifier: %d blocks, not 1 to %d", m.Blocks, layout.MaxBlocks)
	}
	expect("slots", len(m.Slots), m.Blocks*layout.BlockSlots)
	expect("vectors", len(m.Vectors), 2*m.Blocks)
	expect("chunks", len(m.Chunks), 2)
	expect("wild", len(m.Wild), m.Blocks)
	expect("services", len(m.Services), int(layout.Services))
	expect("source ports", len(m.SourcePorts), int(layout.SourcePorts))
	if wrong != nil {
		return fmt.Errorf("memory of the classifier: %s", strings.Join(wrong, ", "))
	}
	return nil
}

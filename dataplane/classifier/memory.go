package classifier

import (
	"fmt"
	"strings"

	"github.com/margay-project/margay/bpf/layout"
)

// Memory is the arrays that the program reads. In production they alias memory-mapped BPF arrays.
//
// The classifier is the only writer; the program reads while it writes. Everything must be zero at first.
type Memory struct {
	Slots       []layout.Slot
	Vectors     []layout.Vector // Blocks entries for each vector
	Chunks      []layout.Chunk
	Wild        []layout.Wild // one for each block
	Services    []uint32
	SourcePorts []uint32
	Blocks      int

	stored func() // a test looks at the tables after each store that a packet could see
}

// store is called after each of them.
func (m *Memory) store() {
	if m.stored != nil {
		m.stored()
	}
}

// NewMemory returns ordinary memory, for tests and for a dry run.
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

// pages rounds up to whole pages of points.
func pages(points uint32) uint32 {
	return (points + layout.PagePoints - 1) / layout.PagePoints * layout.PagePoints
}

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

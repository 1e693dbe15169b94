package classifier

import (
	"github.com/margay-project/margay/bpf/layout"
)

// mask is a vector of the slots that apply. Its bits never change.
type mask struct {
	vector uint32
	chunks []*maskChunk // by block; nil: it has no slot there
	refs   int          // rulesets and mask sets that have it
	idle   uint64       // round in which refs became 0
}

// maskChunk is one block of masks. Masks with the same bits in a block share it, whichever block that is.
type maskChunk struct {
	number  uint32 // of the chunk in Memory
	words   [layout.BlockWords]uint64
	summary uint64
	refs    int // how many blocks of masks have it
}

// masks are all masks that a program may use: those with references, and those that wait for reuse.
type masks struct {
	vectors *vectors
	all     map[*mask]struct{}
	chunks  map[[layout.BlockWords]uint64]*maskChunk
	scratch [][layout.BlockWords]uint64 // of make: the bits of a mask, by block
}

func newMasks(vs *vectors) masks {
	return masks{
		vectors: vs,
		all:     map[*mask]struct{}{},
		chunks:  map[[layout.BlockWords]uint64]*maskChunk{},
		scratch: make([][layout.BlockWords]uint64, vs.mem.Blocks),
	}
}

// make returns a mask of all slots of some lists: old itself if it has the same bits. The caller adds the reference.
func (m *masks) make(lists []*list, old *mask) (*mask, error) {
	clear(m.scratch)
	ports := uint32(0) // 1: some rule asks for the source port
	for _, l := range lists {
		for _, w := range l.slots {
			m.scratch[w.at/uint32(layout.BlockWords)][w.at%uint32(layout.BlockWords)] |= w.bits
		}
		if l.ports {
			ports = 1
		}
	}
	if old != nil && m.equal(old) {
		return old, nil
	}
	n := &mask{chunks: make([]*maskChunk, len(m.scratch))}
	if err := m.fill(n, old, ports); err != nil {
		m.free(n)
		return nil, err
	}
	m.all[n] = struct{}{}
	return n, nil
}

// equal says whether a mask has the bits of scratch. Then it has the same rules, and so the same value of ports.
func (m *masks) equal(old *mask) bool {
	for b, c := range old.chunks {
		if c == nil {
			if m.scratch[b] != [layout.BlockWords]uint64{} {
				return false
			}
		} else if c.words != m.scratch[b] {
			return false
		}
	}
	return true
}

// fill writes the vector of a new mask from scratch. It shares the chunks that old has in the same place. After an
// error the caller frees the mask.
func (m *masks) fill(n, old *mask, ports uint32) (err error) {
	if n.vector, err = m.vectors.numbers.allocate(0); err != nil {
		return err
	}
	entries := m.vectors.entries(n.vector)
	for b := range m.scratch {
		var c *maskChunk
		if old != nil && old.chunks[b] != nil && old.chunks[b].words == m.scratch[b] {
			c = old.chunks[b]
			c.refs++
		} else if c, err = m.chunk(&m.scratch[b]); err != nil {
			return err
		}
		e := layout.Vector{SourcePorts: ports}
		if c != nil {
			n.chunks[b], e.Chunk, e.Summary = c, c.number, c.summary
		}
		entries[b] = e
	}
	return nil
}

// chunk returns the chunk with some bits, with one more reference; nil if no bit is set.
func (m *masks) chunk(words *[layout.BlockWords]uint64) (*maskChunk, error) {
	if *words == ([layout.BlockWords]uint64{}) {
		return nil, nil
	}
	if c := m.chunks[*words]; c != nil {
		c.refs++
		return c, nil
	}
	number, err := m.vectors.chunks.allocate(0)
	if err != nil {
		return nil, err
	}
	c := &maskChunk{number: number, words: *words, refs: 1}
	chunk := &m.vectors.mem.Chunks[number] // nobody sees it yet
	for w, bits := range words {
		chunk.Words[w] = layout.ChunkWord{Pos: bits}
		if bits != 0 {
			c.summary |= 1 << w
		}
	}
	m.chunks[*words] = c
	return c, nil
}

// release gives back a reference; nil has none.
func (m *masks) release(n *mask, round uint64) {
	if n == nil {
		return
	}
	if n.refs--; n.refs == 0 {
		n.idle = round
	}
}

// reuse frees the masks that lost their last reference in a round up to the given one.
func (m *masks) reuse(round uint64) {
	for n := range m.all {
		if n.refs == 0 && n.idle <= round {
			delete(m.all, n)
			m.free(n)
		}
	}
}

// free gives back the numbers of a mask, also of one that was filled in part.
func (m *masks) free(n *mask) {
	for _, c := range n.chunks {
		if c == nil {
			continue
		}
		if c.refs--; c.refs == 0 {
			delete(m.chunks, c.words)
			m.vectors.chunks.release(c.number)
		}
	}
	if n.vector != 0 {
		m.vectors.numbers.release(n.vector)
	}
}

// union returns the bits of a block that some mask has.
func (m *masks) union(block uint32) []uint64 {
	out := make([]uint64, layout.BlockWords)
	for n := range m.all {
		if c := n.chunks[block]; c != nil {
			for w, bits := range c.words {
				out[w] |= bits
			}
		}
	}
	return out
}

package classifier

import (
	"sync/atomic"

	"github.com/margay-project/margay/bpf/layout"
)

// vectors hands out vectors and their chunks, and changes their bits. A number that is given back is reused
// only after a grace period: until then a program may still read it.
type vectors struct {
	mem           *Memory
	numbers       numbers // of vectors, of classes and masks
	chunks        numbers
	retiredChunks []retiredChunk // given back by andNot, in ascending order of rounds
}

// retiredChunk is a chunk that no vector has any more, and the round in which it was retired.
type retiredChunk struct {
	round uint64
	chunk uint32
}

// half is one of the two sets of bits in the vector of a class; doc.go has the formula.
type half uint8

const (
	pos  half = iota // rules that ask for memberships, all of which the class has
	veto             // rules that exclude the class
)

func newVectors(mem *Memory) vectors {
	return vectors{
		mem:     mem,
		numbers: newNumbers("vectors", len(mem.Vectors)/mem.Blocks),
		chunks:  newNumbers("chunks", len(mem.Chunks)),
	}
}

// entries returns the blocks of a vector.
func (vs *vectors) entries(v uint32) []layout.Vector {
	return vs.mem.Vectors[int(v)*vs.mem.Blocks:][:vs.mem.Blocks]
}

// reservedForMasks returns how many numbers classes leave to masks: without a mask an endpoint is closed, whatever its
// rules need.
func reservedForMasks(n *numbers) uint32 { return n.limit / 8 }

// allocate returns an empty vector for a class.
func (vs *vectors) allocate() (uint32, error) {
	v, err := vs.numbers.allocate(reservedForMasks(&vs.numbers))
	if err == nil {
		clear(vs.entries(v))
	}
	return v, err
}

// or sets bits of a vector. After an error some are set; it may be repeated.
func (vs *vectors) or(v uint32, h half, set slotSet) error {
	entries := vs.entries(v)
	for len(set) > 0 {
		block := set[0].at / uint32(layout.BlockWords)
		n := 1
		for n < len(set) && set[n].at/uint32(layout.BlockWords) == block {
			n++
		}
		if err := vs.orBlock(&entries[block], h, set[:n]); err != nil {
			return err
		}
		set = set[n:]
		vs.mem.store()
	}
	return nil
}

// orBlock sets bits in one block: the words before the summary that leads to them.
func (vs *vectors) orBlock(e *layout.Vector, h half, set slotSet) error {
	if e.Chunk == 0 {
		return vs.newBlock(e, h, set)
	}
	chunk := &vs.mem.Chunks[e.Chunk]
	summary := e.Summary
	for _, w := range set {
		at := w.at % uint32(layout.BlockWords)
		if h == veto {
			atomic.StoreUint64(&chunk.Words[at].Veto, chunk.Words[at].Veto|w.bits)
			continue
		}
		atomic.StoreUint64(&chunk.Words[at].Pos, chunk.Words[at].Pos|w.bits)
		summary |= 1 << at
	}
	if summary != e.Summary {
		atomic.StoreUint64(&e.Summary, summary)
	}
	return nil
}

// newBlock gives a block its first chunk, filled before anybody can see it.
func (vs *vectors) newBlock(e *layout.Vector, h half, set slotSet) error {
	number, err := vs.chunks.allocate(reservedForMasks(&vs.chunks))
	if err != nil {
		return err
	}
	chunk := &vs.mem.Chunks[number]
	clear(chunk.Words[:])
	var summary uint64
	for _, w := range set {
		at := w.at % uint32(layout.BlockWords)
		if h == veto {
			chunk.Words[at].Veto = w.bits
			continue
		}
		chunk.Words[at].Pos = w.bits
		summary |= 1 << at
	}
	atomic.StoreUint32(&e.Chunk, number)
	atomic.StoreUint64(&e.Summary, summary)
	return nil
}

// andNot clears the bits of slots that no mask has. A chunk that becomes empty is retired in this round.
func (vs *vectors) andNot(v uint32, h half, set slotSet, round uint64) {
	entries := vs.entries(v)
	for _, w := range set {
		e := &entries[w.at/uint32(layout.BlockWords)]
		if e.Chunk == 0 {
			continue
		}
		at := w.at % uint32(layout.BlockWords)
		words := &vs.mem.Chunks[e.Chunk].Words
		if h == veto {
			atomic.StoreUint64(&words[at].Veto, words[at].Veto&^w.bits)
		} else if atomic.StoreUint64(&words[at].Pos, words[at].Pos&^w.bits); words[at].Pos == 0 {
			atomic.StoreUint64(&e.Summary, e.Summary&^(1<<at))
		}
		if e.Summary == 0 && *words == (layout.Chunk{}).Words {
			vs.retiredChunks = append(vs.retiredChunks, retiredChunk{round, e.Chunk})
			atomic.StoreUint32(&e.Chunk, 0)
		}
		vs.mem.store()
	}
}

// free gives back a vector of a class, and its chunks. No running program may hold them.
func (vs *vectors) free(v uint32) {
	for _, e := range vs.entries(v) {
		if e.Chunk != 0 {
			vs.chunks.release(e.Chunk)
		}
	}
	vs.numbers.release(v)
}

// reuse frees the chunks that were retired up to the given round.
func (vs *vectors) reuse(round uint64) {
	n := 0
	for n < len(vs.retiredChunks) && vs.retiredChunks[n].round <= round {
		vs.chunks.release(vs.retiredChunks[n].chunk)
		n++
	}
	vs.retiredChunks = vs.retiredChunks[n:]
}

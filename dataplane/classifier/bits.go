package classifier

import (
	"math/bits"
	"slices"
)

// word is 64 neighbouring slots: those from 64 * at on.
type word struct {
	at   uint32
	bits uint64
}

// slotSet is a sparse set of slots: its words in ascending order, none of them zero.
type slotSet []word

// find returns the index of a word, or the index where it belongs. Slots mostly come in ascending order, so it looks at
// the end first.
func (s slotSet) find(at uint32) (int, bool) {
	if n := len(s); n == 0 || s[n-1].at < at {
		return n, false
	}
	return slices.BinarySearchFunc(s, at, func(w word, at uint32) int { return int(w.at) - int(at) })
}

func (s *slotSet) add(slot uint32) { s.addWord(word{slot / 64, 1 << (slot % 64)}) }

// addWord adds the slots of a word.
func (s *slotSet) addWord(w word) {
	i, found := s.find(w.at)
	if found {
		(*s)[i].bits |= w.bits
		return
	}
	*s = slices.Insert(*s, i, w)
}

func (s *slotSet) remove(t slotSet) {
	for _, w := range t {
		if i, found := s.find(w.at); found {
			(*s)[i].bits &^= w.bits
		}
	}
	*s = slices.DeleteFunc(*s, func(w word) bool { return w.bits == 0 })
}

// numbers hands out small numbers: of vectors, or of chunks.
type numbers struct {
	what      string   // for ErrFull
	allocated []uint64 // one bit for each number
	limit     uint32   // numbers are below it
	count     uint32   // allocated numbers; number 0 counts
	hint      uint32   // words below this one have no free number
}

// newNumbers hands out the numbers from 1 to limit-1. Number 0 is taken: in every table it means none.
func newNumbers(what string, limit int) numbers {
	n := numbers{what: what, allocated: make([]uint64, (limit+63)/64), limit: uint32(limit)}
	if limit > 0 {
		n.allocated[0], n.count = 1, 1
	}
	return n
}

// allocate returns a free number. It returns an ErrFull if fewer than others would be left.
func (n *numbers) allocate(others uint32) (uint32, error) {
	if n.count+others >= n.limit {
		return 0, &ErrFull{What: n.what, Size: int(n.limit)}
	}
	for w := n.hint; int(w) < len(n.allocated); w++ {
		if free := ^n.allocated[w]; free != 0 {
			i := w*64 + uint32(bits.TrailingZeros64(free))
			if i >= n.limit {
				break
			}
			n.hint = w
			n.allocated[w] |= 1 << (i % 64)
			n.count++
			return i, nil
		}
	}
	return 0, &ErrFull{What: n.what, Size: int(n.limit)}
}

func (n *numbers) release(i uint32) {
	n.allocated[i/64] &^= 1 << (i % 64)
	n.count--
	n.hint = min(n.hint, i/64)
}

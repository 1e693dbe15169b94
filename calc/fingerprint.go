package calc

import (
	"encoding/binary"
	"hash/maphash"
)

// fingerprint stands for a key or a text: 128 bits of two hashes that nobody outside can foresee, so two do not share one.
type fingerprint [16]byte

// prints makes fingerprints.
type prints struct{ seeds [2]maphash.Seed }

func newPrints() prints { return prints{[2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}} }

func printOf[T comparable](p prints, v T) (print fingerprint) {
	binary.NativeEndian.PutUint64(print[:8], maphash.Comparable(p.seeds[0], v))
	binary.NativeEndian.PutUint64(print[8:], maphash.Comparable(p.seeds[1], v))
	return print
}

package calc

import (
	"encoding/binary"
	"hash/maphash"
)

// fingerprint identifies a key or a text in 16 bytes: two hashes of 64 bits with random seeds. Nobody outside can foresee them, so nobody
// can make two keys with one fingerprint.
type fingerprint [16]byte

// prints makes fingerprints. Those of different prints cannot be compared.
type prints struct{ seeds [2]maphash.Seed }

func newPrints() prints { return prints{[2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}} }

// printOf is the fingerprint of a value.
func printOf[T comparable](p prints, v T) (print fingerprint) {
	binary.NativeEndian.PutUint64(print[:8], maphash.Comparable(p.seeds[0], v))
	binary.NativeEndian.PutUint64(print[8:], maphash.Comparable(p.seeds[1], v))
	return print
}

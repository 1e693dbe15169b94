package bpf

import (
	"net/netip"

	"github.com/margay-project/margay/bpf/layout"
)

// writer fills the arrays of a generation for benchmarks: vectors over all blocks, one class for each address.
type writer struct {
	*Generation
	vectors, chunks uint32
	hosts           map[netip.Addr]layout.AddressClass
	nets            map[netip.Prefix]layout.AddressClass
}

func newWriter(g *Generation) *writer {
	return &writer{g, 1, 1, map[netip.Addr]layout.AddressClass{}, map[netip.Prefix]layout.AddressClass{}}
}

func (w *writer) vector() uint32 {
	w.vectors++
	return w.vectors - 1
}

// match sets a slot's bit in a vector.
func (w *writer) match(vector, slot uint32) {
	v := &w.Vectors[vector*w.Sizes.Blocks+slot/uint32(layout.BlockSlots)]
	if v.Chunk == 0 {
		v.Chunk = w.chunks
		w.chunks++
	}
	word, bit := slot/64%64, slot%64
	v.Summary |= 1 << word
	w.Chunks[v.Chunk].Words[word].Pos |= 1 << bit
}

func (w *writer) wild(slot uint32, dim int) {
	wild := &w.Wild[slot/uint32(layout.BlockSlots)]
	wild.Summary[dim] |= 1 << (slot / 64 % 64)
	wild.Words[slot/64%64][dim] |= 1 << (slot % 64)
}

func (w *writer) slot(mask, slot uint32, s layout.Slot) {
	w.Slots[slot] = s
	w.match(mask, slot)
}

func (w *writer) host(r *rig, a netip.Addr) layout.AddressClass {
	class, found := w.hosts[a]
	if !found {
		class = ClassOf(a, w.vector(), w.vector())
		w.hosts[a] = class
		must(r, r.Hosts.Put(Address(a), class))
	}
	return class
}

func (w *writer) net(r *rig, p netip.Prefix) layout.AddressClass {
	class, found := w.nets[p]
	if !found {
		class = ClassOf(p.Addr(), w.vector(), w.vector())
		w.nets[p] = class
		must(r, r.Nets.Put(NetKeyOf(p), class))
	}
	return class
}

func (w *writer) service(point uint32) uint32 {
	if w.Services[point] == 0 {
		w.Services[point] = w.vector()
	}
	return w.Services[point]
}

// Package ipam keeps the records of addresses (IP address management): nodes claim blocks of the pools, a block says who holds each
// of its addresses, and a handle counts the addresses of one holder. Keys and values are those of a Calico datastore, and other
// allocators change them at the same time.
//
// The package does not choose addresses yet: an operator writes the address of an endpoint, and Reserve records it, so that no
// allocator gives it to another holder. Start at reserve.go; block.go has the arithmetic of one block, without I/O.
//
// Calico writes in several steps (handle, then block; pending affinity, block, confirmed affinity). Here these writes are one
// commit: the result is the same, and nothing is left half done. A commit fails if another allocator has changed one of its keys;
// each operation then reads again and repeats, up to attempts times.
package ipam

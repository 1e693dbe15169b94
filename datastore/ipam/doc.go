// Package ipam keeps the records of addresses (IP address management): nodes claim blocks of the pools, a block says who holds each
// of its addresses, and a handle counts the addresses of one holder. Keys and values are those of a Calico datastore, and other
// allocators change them at the same time.
//
// Assign chooses free addresses for a handle (assign.go); Reserve records an address that an operator wrote into an endpoint, so that
// no allocator gives it to another holder (reserve.go). block.go has the arithmetic of one block, without I/O. places.go has the order
// in which blocks are used, and terms.go everything else that decides which addresses a request may get.
//
// Calico writes in several steps (handle, then block; pending affinity, block, confirmed affinity). Here these writes are one
// commit: the result is the same, and nothing is left half done when a program dies. A commit fails if another allocator has changed
// one of its keys; each operation then reads again and repeats, up to attempts times. Steps that a client of Calico has left half done
// are completed, or undone, by the next assignment on that node.
package ipam

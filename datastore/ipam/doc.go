// Package ipam keeps account of which address is whose: in blocks of the pools, which nodes claim, with a handle for each
// owner. Its keys and values are those of an existing Calico datastore, and other allocators work on them at the same time.
//
// Addresses are not chosen here yet: an operator writes an endpoint's address, and Reserve makes sure that no allocator
// gives it to anybody else. Start at reserve.go; block.go is the arithmetic of one block, without I/O.
//
// Calico writes in several steps (handle, then block; pending affinity, block, confirmed affinity). Here they are one
// commit. Whoever watches sees the same end, and nothing is left half done.
package ipam

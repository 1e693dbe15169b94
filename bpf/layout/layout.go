// Package layout has the layouts that the BPF program and Go share, as Go types and constants. `make generate` makes
// types.go from bpf/layout.h, where each layout is described. The package imports nothing, so that code without any
// access to the kernel can use it.
package layout

// BlockSlots is the number of slots in one block of a vector.
const BlockSlots = BlockWords * 64

// StageBornHere is the stage of packets from this host to a workload of its own: they are always allowed. No interface
// has a mask for it.
const StageBornHere = Stages

// Package calc turns the datastore's objects into what one node must enforce, route and announce.
//
// It is a function kept up to date: objects in, State out, no I/O, no clock, no goroutine, no lock. Compute is the
// specification, written to be read; Graph is the same function made incremental, and tests hold that folding the
// Deltas of any history gives what Compute gives for its last state. Judge (judge.go) is the one definition of a
// packet's verdict; the classifier and the kernel's program are compared with it.
//
// Start at state.go: the values that calc hands out.
package calc

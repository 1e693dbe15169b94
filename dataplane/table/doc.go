// Package table brings a set of keyed entries in the kernel, or in a daemon, to the wanted state.
//
// A Table knows the wanted and the programmed entries, and a Target writes the difference. An entry that fails stops no other; it
// is tried again without new input, each time after a longer pause. Nothing is deleted before the owner says that the input is
// complete. Entries that a former process left are listed, and kept or swept as wanted.
//
// A Table must not be used by several goroutines at once. It reads no clock: time comes in as a value.
//
// Start at table.go; the tests in testdata read as stories.
package table

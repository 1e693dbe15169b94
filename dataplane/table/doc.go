// Package table keeps a set of keyed entries somewhere else (the kernel, a daemon) as it is wanted here.
//
// A Table knows what is wanted and what is programmed, and a Target carries out the difference. One failed entry
// stops no other; it is tried again, later and later, without new input. Nothing is deleted before the owner says
// that the input is complete. Entries of a former process in a Target are listed, kept when it is wanted and swept
// when it is not.
//
// It is not safe for use by several goroutines, and it reads no clock: time comes in as a value.
//
// Start at table.go; the tests in testdata read as stories.
package table

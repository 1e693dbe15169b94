// Package ipam is the command margayctl ipam: it shows who holds each address, and corrects IPAM's records.
//
// Each command has a file of its own; ipam.go assembles them. tables.go prints the tables of show, and report.go is the file
// that check writes and release reads. The rules are in datastore/ipam: this package reads flags and prints.
//
// The commands get everything outside of the process in a Session: the datastore, the outputs, the clock. Messages and tables
// are those of calicoctl; scripts depend on them.
package ipam

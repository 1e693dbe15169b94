// Package interfaces knows the host's network interfaces, and which endpoint governs which of them.
//
//	netlink -> Watcher -> Links (a value) -> Match(Links, endpoints) -> Assignment for each interface
//
// The Watcher, with its uplinks, is the only part with goroutines. Match is a pure function, so that every case of "which
// endpoint is this interface" can be read and tested without a kernel. Sysctls are what a workload's interface needs of
// /proc/sys. Attaching programs is not done here, see package dataplane.
//
// Start at links.go, then match.go.
package interfaces

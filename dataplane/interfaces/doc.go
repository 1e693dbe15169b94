// Package interfaces knows the host's network interfaces, and which endpoint governs which of them.
//
//	netlink -> Watcher -> Links (a value) -> Match(Links, endpoints) -> Assignment for each interface
//
// Only the Watcher, with its uplinks, has goroutines. Match is a pure function, so all its cases can be tested without a kernel.
// Sysctls lists the settings under /proc/sys that a workload's interface needs. Package dataplane attaches programs.
//
// Start at links.go, then match.go.
package interfaces

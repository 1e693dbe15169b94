// Package dataplane brings this node's kernel to what calc asks for: policy into BPF tables, programs onto interfaces,
// routes, the gate.
//
//	calc.Delta ──> Driver.Apply ──┬─> generation (classifier, interfaces, sources)   package bpf
//	                              ├─> attachments: one pair of programs an interface
//	netlink ─> interfaces.Watcher ┤
//	                              ├─> routes, sysctls, local addresses, counters     table.Table each
//	                              ├─> gate                                           nftables
//	                              └─> firewall: those of others                      nftables, iptables
//
// Apply makes one pass: it fills new entries, commits them, and sweeps those that nothing uses any more. It makes all the
// progress it can and returns every error. Failed writes are tried again when Wake delivers, without new input. Before the
// input is in sync, nothing is removed and no program is swapped: the programs of a former process go on enforcing.
//
// Other programs may change the kernel too. audit.go reads back and repairs.
//
// Not here: the meaning of policy (package calc), its form as bits (package classifier), BGP (package bgp).
//
// Start at driver.go, then read pass.go: its first comment is the order of all steps.
package dataplane

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
// Apply is one pass: fill what is new, flip what commits, sweep what is unused. It makes all the progress it can and
// returns every error; what failed is tried again when Wake fires, without new input. Nothing is removed and no
// program is swapped before the input is in sync, so what a former process left goes on enforcing until then.
//
// Changes of others in the kernel are read back, see audit.go.
//
// Not here: what the policy is (package calc), how it becomes bits (package classifier), BGP (package bgp).
//
// Start at driver.go, then pass.go, which is the order of things.
package dataplane

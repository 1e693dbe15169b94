// Package gate is a fixed nftables table behind the BPF programs: what they have not seen does not pass.
//
//	from_workloads  prerouting   drops what comes from a workload's interface without the mark of our program
//	to_workloads    postrouting  drops what leaves to a workload's interface that has no program yet
//	to_host         input        while workloads may not reach this host: drops what was not judged as a packet for it
//	from_host       output       marks what this host sends without a socket: a proof of origin for the program
//	forwarded       forward      takes that mark off what is forwarded
//	judged, passed  forward      only beside firewalls of others that drop by default: mark and count what they must not drop
//	outgoing        postrouting  masquerades pools with natOutgoing, towards what is in no pool
//
// So an interface that appears is closed from its first moment, in both directions, and opens when its program is
// attached and it is put into the set `ready`. The table is replaced in one transaction; an interface that comes
// or goes is an element of a set. It stays when the agent stops.
// Changes by others are heard (listen.go), found by reading the whole table (readback.go), and replaced.
package gate

// Package gate makes nftables tables behind the BPF programs. It drops packets of workloads that no program has judged.
//
//	from_workloads  prerouting   drops packets from a workload's interface without the mark of our program
//	to_workloads    postrouting  drops packets to a workload's interface that has no program yet
//	to_host         input        while workloads may not reach this host: drops packets that were not judged as for the host
//	from_host       output       marks packets that this host sends without a socket: a proof of origin for the program
//	forwarded       forward      takes that mark off forwarded packets
//	judged, passed  forward      only beside other firewalls that drop by default: mark and count the packets they must accept
//	outgoing        postrouting  masquerades packets from pools with natOutgoing to addresses outside all pools
//
// The hooks of the family inet do not see frames between ports of a bridge. A second table of the same name, of the family bridge, has
//
//	from_ports, control_from_ports   prerouting, input   drop frames from a workload's port without the mark of our program
//	to_ports                         postrouting         drops frames to a workload's port that has no program yet
//	judged                           forward             only beside other firewalls, as above
//
// So a new interface is closed from its first moment, in both directions. It opens when its program is attached and it is an
// element of the set `ready`. The table is replaced in one transaction; interfaces that come and go only change sets. The table
// stays when the agent stops.
//
// Other programs may change the table. listen.go hears of changes, readback.go compares the whole table, and Apply replaces it.
package gate

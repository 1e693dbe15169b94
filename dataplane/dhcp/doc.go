// Package dhcp answers workloads that ask for their addresses, their router and their resolvers, so that an ordinary image of an
// operating system works behind a routed interface: DHCP for IPv4 (RFC 2131), DHCP for IPv6 (RFC 8415), and router solicitations (RFC 4861).
//
// A workload gets the addresses that its WorkloadEndpoint names, and no others: there is no pool and nothing is remembered. Two agents
// give the same answer, so a workload that moves, and an agent that restarts, need no handover.
//
// The packet program takes questions off the network and copies them to a buffer (bpf/question.h). Answers are frames of a packet socket
// that pass no hook. So no server elsewhere can answer in place of this one.
//
//	link.go     the host's side of a workload, and its guest
//	answer4.go  DHCP for IPv4
//	answer6.go  DHCP for IPv6
//	router.go   router advertisements
//	frame.go    Ethernet, IP and UDP around a message
//	server.go   reads questions, sends answers
package dhcp

// Package classifiertest makes random states, packets and histories, for tests of programs that judge packets.
//
// Everything is drawn from small pools that overlap on purpose: nested nets of both families, sets with common members,
// neighbouring ports. Packets are drawn from the same pools and their edges, so that most of them are decided by some
// rule and not by the end. The same seed gives the same state.
//
// Start with RandomState and RandomPacket; Change and Diff make a history.
package classifiertest

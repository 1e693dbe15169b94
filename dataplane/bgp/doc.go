// Package bgp tells this node's BGP neighbours what the node announces.
//
// A [Speaker] takes the whole of [calc.BGP] in each Apply, compares it with what it has handed to the BGP server in this
// process, and changes only the difference. An entry that cannot be done is reported and tried again by the next Apply;
// it never holds up another.
//
//	calc.BGP ──Apply──▶ Speaker ──▶ server (GoBGP) ──▶ neighbours
//	                      │ ▲
//	Status, Announced ◀───┘ └── sessions up and down, end of RIB
//
// Order is what keeps neighbours from dropping routes that are in use. Forwards: policy, then paths, then peers, since a
// session that comes up with paths missing tells its neighbour that they are gone. Backwards: peers, then paths.
//
// The parts of a session, and the cost of changing each:
//
//   - IPv4 routes go over sessions with IPv4 neighbours and IPv6 routes over sessions with IPv6 neighbours, as Calico
//     does; the next hop is the session's own address.
//   - Only this node's own paths are exported: everything else meets a default of reject. Routes that neighbours send
//     are counted and then rejected; nothing of theirs reaches the kernel.
//   - Any change of a peer's address, port, AS, local AS, source, timers or TTL security ends its session with a Cease
//     and starts a new one, as the OPEN message can say these things only once. Its neighbour withdraws and learns again.
//   - A change of the node's AS, router id or listen port restarts the server, which does the same to all sessions.
//   - A change of a path or its communities touches no session.
//
// Leaving has two forms. [Speaker.Close] and the end of the process say nothing to the neighbours, which keep our routes
// for the restart time: this is what an agent does when it is stopped, killed or upgraded. [Speaker.Shutdown] sends
// Cease and the routes go at once: this is for taking a node out of service.
//
// There can be one Speaker that has started in a process: GoBGP v3 keeps its choice of routes in package variables, and
// its goroutine never ends.
//
// This package does not decide what is announced or to whom (calc does), does not program routes, and does no graceful
// restart of its own. Start reading in speaker.go; gobgp.go, gate.go, translate.go and log.go are the
// only files that know GoBGP.
package bgp

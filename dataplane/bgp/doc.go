// Package bgp announces this node's routes to its BGP peers, and learns theirs.
//
// A [Speaker] gets the whole of [calc.BGP] with each Apply, compares it with the state of the BGP server in this process, and
// changes only the difference. An entry that fails is reported and tried again by the next Apply; it holds up no other entry.
//
//	calc.BGP ──Apply──▶ Speaker ──▶ server (GoBGP) ──▶ peers
//	                      │ ▲
//	Status, Announced ◀───┘ └── sessions up and down, best paths, end of RIB
//	TakeLearned ◀── learned
//
// The order of changes keeps peers from dropping routes that are in use. Additions go policy, paths, peers: a session that
// comes up while paths are missing tells its peer that they are gone. Removals go peers, then paths.
//
// The parts of a session, and the cost of changing each:
//
//   - IPv4 routes go over sessions with IPv4 peers and IPv6 routes over sessions with IPv6 peers, as Calico
//     does; the next hop is the session's own address.
//   - Only this node's own paths are exported; the default is reject. Routes of peers that filters accept are handed to the
//     owner of the Speaker, who decides which of them the kernel gets.
//   - A change of filters touches no session. The import policy of the server consists of the rules for routes of peers (imports.go).
//     Rules for our own paths are judged here, by package filter (exports.go). Rules with an interface follow the kernel's ways to next
//     hops (ways.go).
//   - Any change of a peer's address, port, AS, local AS, source, timers or TTL security ends its session with a Cease
//     and starts a new one: the OPEN message carries these values, and a session has one. The peer drops our routes and
//     learns them anew.
//   - A change of the node's AS, router id or listen port restarts the server, and so all sessions.
//   - A change of a path or its communities touches no session.
//
// There are two ways to leave. [Speaker.Close] and the end of the process send nothing, so peers keep our routes for the
// restart time: this is for an agent that is stopped, killed or upgraded. [Speaker.Apply] without peers sends Cease, and the routes go
// at once: this is for a node that goes out of service.
//
// Some malformed messages make GoBGP v3 panic where nobody can recover, so felix runs the Speaker in a child: see package process. A
// process can start one Speaker: GoBGP v3 keeps its choice of routes in package variables, and its goroutine never ends.
//
// Package calc decides which routes are announced to which peers, and package dataplane programs routes. Start reading in
// speaker.go. Only gobgp.go, gobgppolicy.go, gate.go, protect.go, translate.go, learned.go and log.go know GoBGP.
package bgp

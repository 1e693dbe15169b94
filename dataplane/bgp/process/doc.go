// Package process runs a [bgp.Speaker] in a process of its own, a child of the agent.
//
// GoBGP v3 parses the messages of peers on goroutines of its own, and some malformed ones make it panic there. The panic ends the child.
// The agent, and everything else that it does, goes on. A new child starts at once and tells peers that it has only restarted: they
// keep this node's routes, and the routes that were learned stay in the kernel until they have been announced again.
//
//	agent: Process ──Apply, Status, ...──▶ child: Serve ── Speaker
//	          ▲                                │
//	          └── learned routes, sessions ◀───┘   (net/rpc and gob over a socket pair)
//
// A peer that sends such a message once will send it again with its routes. If the child ends again soon, suspects.go lets peers
// in by parts until it knows which of them it is, and keeps that one closed for a while.
//
// The child ends when its connection to the agent ends, however the agent ends. It ignores the signals by which a terminal or systemd end
// the agent.
package process

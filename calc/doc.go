// Package calc turns the datastore's objects into what one node must enforce, route and announce.
//
// It is a function kept up to date: objects in, State out, no I/O, no clock, no goroutine, no lock. Compute is the
// specification, written to be read; Graph is the same function made incremental, and tests hold that folding the
// Deltas of any history gives what Compute gives for its last state. Judge (judge.go) is the one definition of a
// packet's verdict; the classifier and the kernel's program are compared with it.
//
// Start at state.go: the values that calc hands out. Then compute.go, which calls one reading after the other, each a
// function from objects to values in a file of its own: policy.go and rule.go, tier.go, endpoint.go and labels.go,
// ports.go (names of ports), bound.go, failsafe.go, config.go, routes.go, bgp.go.
//
//	         objects                      Graph.Update
//	profiles   endpoints, sets   policies
//	    \        /        \       /       labels.go, index.go, postings.go: which selectors match what; selection.go: the policies of each
//	  entities.go,      locals.go: groups of endpoints with the same policies
//	  members.go: sets       |
//	            \        /
//	      active.go: policies, tiers and sets that are in use
//	                |
//	              Delta                   Graph.Flush
//
// A datastore has more of everything than a node needs, so what Graph keeps is packed until it is needed: entity.go,
// profile.go, keptpolicy.go, packedpolicy.go, packedrules.go.
//
// A Problem tells of each request of an object that the node cannot fulfil. Such a request never widens what is allowed.
package calc

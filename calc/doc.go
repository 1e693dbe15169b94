// Package calc turns the datastore's objects into what one node must enforce, route and announce.
//
// It is a function that is kept up to date: objects in, State out. It does no I/O and has no clock, no goroutine and no lock. Compute is
// the specification: it loops over all objects and remembers nothing. Graph is the same function made incremental. Judge (judge.go) is
// the definition of a packet's verdict; the classifier and the kernel's program are compared with it.
//
// Start at state.go: the values that calc hands out. Then read compute.go: it calls one reader after the other. A reader is a function
// from objects to values, in a file of its own: tier.go, policy.go, resolve.go and rule.go, profile.go, entity.go and labels.go (what selectors
// see), ports.go (named ports), endpoint.go, failsafe.go, config.go and parameters.go, routes.go (pools and blocks),
// nodeways.go (ways to other nodes), clusterroutes.go (what each prefix needs), bgp.go. order.go is the order of
// evaluation, and bound.go compares an endpoint's policies with the classifier's bounds.
//
// # How Graph follows a change
//
//	          objects                     Graph.Update
//	             |
//	profiles   entities   policies        profile.go, entities.go, keptpolicy.go
//	    \        /   \        /           index.go, labels.go, postings.go: which selectors match which entities
//	   +------+    +--------+
//	   | sets |    | groups |             members.go for sets; selection.go, group.go, locals.go for groups
//	   +------+    +--------+
//	        \        /
//	        +--------+
//	        | active |                    active.go: the policies, tiers and sets that are active
//	        +--------+
//	             |
//	           Delta                      Graph.Flush
//
// An entity is an endpoint of any node or a network set: an object that selectors match. A group is the endpoints of this node with the same
// policies. A policy is active while it judges an endpoint of this node. A pending object must be looked at again by a later step of the
// same Flush. A datastore has many more objects than a node needs, so Graph keeps them packed until they are active: entity.go, profile.go,
// keptpolicy.go, packedpolicy.go, packedrules.go.
//
// # What tests check
//
// Any history of updates: the Deltas of Graph add up to what Compute returns for the last objects (history_test.go, scenario_test.go).
//
// Compute and Graph call the same readers, so comparing the two cannot show a fault of a reader. Other tests check the readers:
//
//   - the verdicts of thousands of packets are those that the reference implementation gave (oracle_test.go, with the corpus of calctest), and
//     policies select what the reference selects (selectors_test.go): policies, rules, profiles, labels, tiers, host endpoints;
//   - the States of some datastores are as a person wrote them down (state_test.go and testdata/states): all readers, and the only test of
//     most of bgp.go and routes.go;
//   - parameters_test.go: FelixConfiguration and the environment; failsafe_test.go; ports_test.go; bound_test.go;
//   - emptymatch_test.go and foreignwriter_test.go: rules as other programs write them;
//   - packedrules_test.go: rules are the same after packing; fuzz_test.go: no object makes a reader panic.
//
// # Problems
//
// A Problem says that a stored object is not in force as written, and what to do. A request that cannot be fulfilled never widens what is
// allowed.
package calc

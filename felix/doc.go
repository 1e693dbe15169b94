// Felix is the agent: on one machine it does what the datastore asks.
//
// It is the wiring of four packages around one loop: datastore delivers batches of changed objects, calc turns them
// into a delta of what this node must do, dataplane drives the kernel and the BGP speaker to it. Start at main.go,
// which builds the parts, and loop.go, which owns them from then on; server.go answers margayctl.
package main

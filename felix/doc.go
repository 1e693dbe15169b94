// Felix is the agent. On one machine, it enforces the policies of the datastore and announces the routes.
//
// It connects four packages with one loop. Package datastore delivers batches of changed objects, calc turns them into a delta of
// the wanted state of this node, and dataplane brings the kernel and the BGP speaker to that state. Start at main.go, which builds
// the parts, and loop.go, which owns them from then on. server.go answers margayctl.
package main

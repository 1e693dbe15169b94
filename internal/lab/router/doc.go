// Package router has routers that speak BGP, for labs: BIRD and FRR, as they run in fabrics, and one in the test's own process
// where no real router is installed.
//
// The latter, Run, only listens: it waits for its neighbours to connect, learns their routes and tells them to its caller. It
// keeps a restarting neighbour's routes, as a router in a fabric does. It programs nothing and announces nothing. There can be
// one in a process, and none beside a bgp.Speaker: see there.
package router

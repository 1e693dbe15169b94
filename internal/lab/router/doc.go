// Package router is a BGP router that only listens: it waits for its neighbours to connect, learns their routes and
// tells them to its caller. Demonstrations and tests use it where no real router is installed.
//
// It keeps a restarting neighbour's routes, as a router in a fabric does. It programs nothing and announces nothing.
// There can be one in a process, and none beside a bgp.Speaker: see there.
package router

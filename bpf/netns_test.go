package bpf

import (
	"testing"

	"github.com/margay-project/margay/internal/lab"
)

// router is a host of a test's own: two workloads and an uplink behind which everything else is.
type router struct {
	*rig
	on              *lab.Host // the test's goroutine is in it
	v1, v2, up, up2 uint32
}

const (
	alice  = "10.9.0.1" // behind v1
	carol  = "10.9.0.2" // behind v2
	alice6 = "2001:db8:9::1"
	carol6 = "2001:db8:9::2"
	bob    = "192.0.2.5" // beyond the uplink
	bob6   = "2001:db8:5::5"
	here   = "172.16.0.1" // this host
	here6  = "2001:db8:1::1"
)

// newRouter makes a router and moves the test's goroutine into it.
func newRouter(t testing.TB) *router {
	t.Helper()
	dir := pinDir(t)
	on := lab.Enter(t)
	on.Forward()
	r := &router{on: on, rig: newRigIn(t, dir, smallSizes(), SharedSizes{Flows: 1024, NewFlows: 1024})}
	r.v1, r.v2, r.up, r.up2 = veth(on, "v1"), veth(on, "v2"), veth(on, "up"), veth(on, "up2")
	on.Up("up", here+"/24", here6+"/64")
	for _, a := range []string{here, here6} {
		must(t, r.shared.Locals.Put(Address(addr(a)), 1))
	}
	on.Route(alice+"/32", "v1")
	on.Route(carol+"/32", "v2")
	on.Route(alice6+"/128", "v1")
	on.Route(carol6+"/128", "v2")
	on.Route("192.0.2.0/24", "up")
	on.Route("2001:db8:5::/48", "up")
	return r
}

// veth makes a pair of interfaces NAME and NAMEp that are up, and returns the index of the former.
func veth(on *lab.Host, name string) uint32 {
	on.Veth(name, name+"p")
	on.Up(name + "p")
	return uint32(on.Up(name).Attrs().Index)
}

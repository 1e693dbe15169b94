package bpf

import (
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// router is a network namespace of a test's own: two workloads and an uplink behind which everything else is.
type router struct {
	*rig
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

// enterNamespace moves the test's thread to a network namespace of its own, that forwards packets.
func enterNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	before, err := netns.Get()
	must(t, err)
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() {
		must(t, netns.Set(before))
		must(t, ns.Close())
		must(t, before.Close())
		runtime.UnlockOSThread()
	})
	for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		must(t, os.WriteFile("/proc/sys/net/"+path, []byte("1"), 0o644))
	}
}

// newRouter moves the test's thread to a namespace of its own; the thread ends with the test.
func newRouter(t testing.TB) *router {
	t.Helper()
	dir := pinDir(t)
	enterNamespace(t)
	r := &router{rig: newRigIn(t, dir, smallSizes(), SharedSizes{Flows: 1024, NewFlows: 1024})}
	r.v1, r.v2, r.up, r.up2 = veth(t, "v1"), veth(t, "v2"), veth(t, "up"), veth(t, "up2")
	address(t, "up", here+"/24")
	address(t, "up", here6+"/64")
	for _, a := range []string{here, here6} {
		must(t, r.shared.Locals.Put(Address(addr(a)), 1))
	}
	route(t, "v1", alice+"/32")
	route(t, "v2", carol+"/32")
	route(t, "v1", alice6+"/128")
	route(t, "v2", carol6+"/128")
	route(t, "up", "192.0.2.0/24")
	route(t, "up", "2001:db8:5::/48")
	return r
}

func veth(t testing.TB, name string) uint32 {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}))
	for _, n := range []string{name, name + "p"} {
		l, err := netlink.LinkByName(n)
		must(t, err)
		must(t, netlink.LinkSetUp(l))
	}
	return uint32(index(t, name))
}

func index(t testing.TB, name string) int {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l.Attrs().Index
}

func address(t testing.TB, name, cidr string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	a, err := netlink.ParseAddr(cidr)
	must(t, err)
	a.Flags |= 0x02 // without duplicate address detection
	must(t, netlink.AddrAdd(l, a))
}

func route(t testing.TB, name, cidr string) {
	t.Helper()
	_, dst, err := parseCIDR(cidr)
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: index(t, name), Dst: dst, Scope: netlink.SCOPE_LINK}))
}

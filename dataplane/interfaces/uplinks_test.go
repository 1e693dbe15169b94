package interfaces_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/internal/lab"
)

func parsed(t *testing.T, prefix string) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// upWithAddress makes an interface that is up and can have routes.
func upWithAddress(h *lab.Host, name, prefix string) netlink.Link {
	h.Veth(name, "p"+name)
	return h.Up(name, prefix)
}

func isUplink(name string, is bool) func(interfaces.Links) bool {
	return func(l interfaces.Links) bool { link, there := l.Named(name); return there && link.Uplink == is }
}

func TestADefaultRouteInAnyTableMakesAnUplink(t *testing.T) {
	h, w, wake := newHost(t)
	for i, route := range []netlink.Route{
		{Dst: parsed(t, "0.0.0.0/0"), Table: 1000},
		{Dst: parsed(t, "128.0.0.0/1")},
		{Dst: parsed(t, "::/0"), Table: 7},
		{Dst: parsed(t, "2000::/3")},
	} {
		name := fmt.Sprint("up", i)
		link := upWithAddress(h, name, fmt.Sprintf("192.0.%d.1/24", i))
		route.LinkIndex = link.Attrs().Index
		if route.Dst.IP.To4() != nil {
			route.Scope = netlink.SCOPE_LINK
		}
		must(t, netlink.RouteAdd(&route))
		eventually(t, w, wake, route.String()+" makes an uplink", isUplink(name, true))
		must(t, netlink.RouteDel(&route))
		eventually(t, w, wake, route.String()+" is gone", isUplink(name, false))
	}
}

// The kernel sends no notification of a route that it removes together with an address.
func TestTheWatcherNoticesADefaultRouteRemovedWithoutAnEvent(t *testing.T) {
	h, w, wake := newHost(t)
	link := upWithAddress(h, "up", "192.0.2.1/24")
	must(t, netlink.RouteAdd(&netlink.Route{
		Dst: parsed(t, "0.0.0.0/0"), LinkIndex: link.Attrs().Index, Gw: net.ParseIP("192.0.2.9"), Src: net.ParseIP("192.0.2.1"),
	}))
	eventually(t, w, wake, "an uplink", isUplink("up", true))
	h.RemoveAddress("up", "192.0.2.1/24")
	eventually(t, w, wake, "no uplink", isUplink("up", false))
}

// One interface has two default routes, and one default route has two interfaces.
func TestAnUplinkStaysAnUplinkWhileADefaultRouteIsLeft(t *testing.T) {
	h, w, wake := newHost(t)
	a, b := upWithAddress(h, "a", "192.0.0.1/24"), upWithAddress(h, "b", "192.0.1.1/24")
	both := netlink.Route{Dst: parsed(t, "0.0.0.0/0"), MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: a.Attrs().Index, Gw: net.ParseIP("192.0.0.9")}, {LinkIndex: b.Attrs().Index, Gw: net.ParseIP("192.0.1.9")},
	}}
	only := netlink.Route{Dst: parsed(t, "0.0.0.0/0"), LinkIndex: a.Attrs().Index, Priority: 100, Scope: netlink.SCOPE_LINK}
	must(t, netlink.RouteAdd(&both))
	must(t, netlink.RouteAdd(&only))
	eventually(t, w, wake, "a and b", func(l interfaces.Links) bool { return isUplink("a", true)(l) && isUplink("b", true)(l) })
	must(t, netlink.RouteDel(&both))
	eventually(t, w, wake, "b alone is none", isUplink("b", false))
	if !isUplink("a", true)(w.Links()) {
		t.Error("a has a default route and is no uplink")
	}
	other := netlink.Route{Dst: parsed(t, "0.0.0.0/0"), LinkIndex: b.Attrs().Index, Priority: 100, Scope: netlink.SCOPE_LINK}
	must(t, netlink.RouteReplace(&other))
	eventually(t, w, wake, "b in place of a", func(l interfaces.Links) bool { return isUplink("a", false)(l) && isUplink("b", true)(l) })
}

// A host may have hundreds of thousands of routes. These events must not read them.
func TestInterfaceEventsDoNotReadTheRoutes(t *testing.T) {
	h, w, wake := newHost(t)
	uplink := upWithAddress(h, "up", "192.0.2.1/24")
	must(t, netlink.RouteAdd(&netlink.Route{Dst: parsed(t, "0.0.0.0/0"), LinkIndex: uplink.Attrs().Index, Scope: netlink.SCOPE_LINK}))
	eventually(t, w, wake, "an uplink", isUplink("up", true))
	before := w.RouteReadings()
	for i := range 20 {
		link := upWithAddress(h, fmt.Sprint("cali", i), fmt.Sprintf("10.0.%d.1/24", i))
		must(t, netlink.RouteAdd(&netlink.Route{Dst: parsed(t, fmt.Sprintf("10.1.%d.0/24", i)), LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK}))
		must(t, netlink.RouteAdd(&netlink.Route{Dst: parsed(t, "0.0.0.0/0"), Table: 100 + i, LinkIndex: uplink.Attrs().Index, Scope: netlink.SCOPE_LINK}))
		address := netlink.Addr{IPNet: netlink.NewIPNet(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}).AsSlice())}
		address.Mask = net.CIDRMask(24, 32)
		must(t, netlink.AddrDel(link, &address))
		must(t, netlink.LinkSetDown(link))
		must(t, netlink.LinkDel(link))
	}
	h.Veth("last", "plast")
	eventually(t, w, wake, "the last event", func(l interfaces.Links) bool { _, there := l.Named("last"); return there })
	if n := w.RouteReadings() - before; n != 0 {
		t.Errorf("the routes were read %d times", n)
	}
}

package dataplane

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/calc"
)

// misnamed adds a workload endpoint that names an interface of the host.
func (w world) misnamed(iface string) calc.EndpointID {
	id := calc.EndpointID{Kind: "WorkloadEndpoint", Name: "misnamed-" + iface}
	w.Endpoints[id] = calc.Endpoint{ID: id, Interface: iface, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Profiles: []string{"open"}}
	return id
}

// refuses waits until the endpoint is refused with this text in the reason, and checks that the host still answers.
func (d *driver) refuses(id calc.EndpointID, reason string, outside *vm) {
	d.h.Helper()
	d.settle(func() bool {
		for _, i := range d.Status().Interfaces {
			if i.Endpoint == id {
				return i.State == Waiting && strings.Contains(i.Reason, reason)
			}
		}
		return false
	})
	if !outside.Reaches("tcp", hostAddress, 22) {
		d.h.Errorf("the host is locked out although the endpoint is refused: %s", reason)
	}
}

func defaultRoute() *net.IPNet { return &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)} }

func TestAnUplinkWithoutItsDefaultRouteStaysAnUplink(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	h.Echo(22)
	w := newWorld()
	id := w.misnamed("eth0")
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	way := &netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1), Dst: defaultRoute()}
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.refuses(id, "eth0 carries the host's default route", outside)

	must(t, netlink.RouteDel(way))
	d.refuses(id, "eth0 carried the host's default route before", outside)
	must(t, netlink.RouteAdd(way))
	d.refuses(id, "eth0 carries the host's default route", outside)

	must(t, netlink.LinkSetDown(eth0)) // the kernel removes the route
	must(t, d.Apply(calc.Delta{}))
	must(t, netlink.LinkSetUp(eth0))
	d.refuses(id, "eth0 carried the host's default route before", outside)

	must(t, netlink.LinkSetDown(eth0))
	must(t, netlink.LinkSetName(eth0, "wan0"))
	must(t, netlink.LinkSetUp(eth0))
	renamed := w.misnamed("wan0")
	must(t, d.become(w))
	d.refuses(renamed, "wan0 carried the host's default route before", outside)
	must(t, netlink.LinkSetDown(eth0))
	must(t, netlink.LinkSetName(eth0, "eth0"))
	must(t, netlink.LinkSetUp(eth0))
	d.settle(func() bool { return d.stateOfInterface("wan0") == Waiting })

	// A new process finds the interface without a default route.
	carried := d.Uplinks()
	must(t, d.Close())
	d = h.start(Options{})
	d.RecallUplinks(carried)
	d.InSync()
	must(t, d.become(w))
	d.refuses(id, "eth0 carried the host's default route before", outside)

	// The operator gives the interface to a workload.
	delete(w.Endpoints, id)
	must(t, d.become(w))
	d.ReleaseUplink("eth0")
	must(t, d.Apply(calc.Delta{}))
	w.misnamed("eth0")
	must(t, d.become(w))
	d.settle(func() bool { return d.stateOfInterface("eth0") == Enforced })
}

func TestAnUplinkInUseIsNotReleased(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	h.Echo(22)
	w := newWorld()
	id := w.misnamed("eth0")
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.ReleaseUplink("eth0")
	must(t, d.Apply(calc.Delta{}))
	d.refuses(id, "eth0 carries the host's default route", outside)
}

// An interface without a default route is an uplink too if the host reaches etcd or a BGP peer through it, or if it has the
// Node's address.
func TestTheInterfaceTowardsEtcdAndPeersIsAnUplink(t *testing.T) {
	etcd, etcd6 := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8:9::9")
	for name, c := range map[string]struct {
		reason string
		set    func(h *host, d *driver, w world, eth1 int)
	}{
		"etcd": {"the traffic to etcd at 203.0.113.9", func(h *host, d *driver, _ world, eth1 int) {
			must(h, netlink.RouteAdd(&netlink.Route{LinkIndex: eth1, Dst: netlink.NewIPNet(etcd.AsSlice()), Scope: netlink.SCOPE_LINK}))
			d.Protect([]netip.Addr{etcd})
		}},
		"etcd over IPv6": {"the traffic to etcd at 2001:db8:9::9", func(h *host, d *driver, _ world, eth1 int) {
			must(h, netlink.RouteAdd(&netlink.Route{LinkIndex: eth1, Dst: netlink.NewIPNet(etcd6.AsSlice())}))
			d.Protect([]netip.Addr{etcd6})
		}},
		"a BGP peer by one of two next hops": {"the traffic to BGP peer 203.0.113.9", func(h *host, _ *driver, w world, eth1 int) {
			eth0, err := netlink.LinkByName("eth0")
			must(h, err)
			must(h, netlink.RouteAdd(&netlink.Route{Dst: netlink.NewIPNet(etcd.AsSlice()), MultiPath: []*netlink.NexthopInfo{
				{LinkIndex: eth0.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1)}, {LinkIndex: eth1, Flags: int(netlink.FLAG_ONLINK), Gw: net.IPv4(192, 0, 2, 1)},
			}}))
			w.BGP.Peers = map[string]calc.Peer{"Global_203_0_113_9": {Address: etcd, Port: 179}}
		}},
		"the node's address": {"the node's address 198.51.100.2", func(h *host, d *driver, w world, eth1 int) {
			link, err := netlink.LinkByIndex(eth1)
			must(h, err)
			must(h, netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(198, 51, 100, 2), Mask: net.CIDRMask(24, 32)}}))
			d.settle(func() bool {
				return slices.Contains(d.watcher.Links().Addresses(), netip.MustParseAddr("198.51.100.2"))
			})
			w.BGP.V4 = netip.MustParsePrefix("198.51.100.2/24")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			outside := h.uplink()
			h.Echo(22)
			h.plug("eth1", "10.65.0.77")
			eth1 := h.Up("eth1")
			w := newWorld()
			id := w.misnamed("eth1")
			d := h.start(Options{})
			defer func() { must(t, d.Uninstall()) }()
			d.settle(func() bool { return len(d.watcher.Links()) >= 3 })
			c.set(h, d, w, eth1.Attrs().Index)
			d.InSync()
			must(t, d.become(w))
			d.refuses(id, "eth1 carries "+c.reason, outside)
			if why := d.Facts().Uplinks["eth1"]; !strings.Contains(why, c.reason) {
				t.Errorf("calc receives the reason %q", why)
			}
		})
	}
}

// A route to etcd moves to another interface. The kernel sends no interface event for this change.
func TestAMovedRouteToEtcdIsNoticed(t *testing.T) {
	h := newHost(t)
	h.uplink()
	h.plug("eth1", "10.65.0.77")
	eth1 := h.Up("eth1")
	etcd, c := netip.MustParseAddr("203.0.113.9"), &clock{now: time.Now()}
	d := h.run(newWorld(), Options{clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	d.Protect([]netip.Addr{etcd})
	if why := d.Facts().Uplinks; why["eth1"] != "" {
		t.Error(why)
	}
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: eth1.Attrs().Index, Dst: netlink.NewIPNet(etcd.AsSlice()), Scope: netlink.SCOPE_LINK}))
	c.now = c.now.Add(lookAtWays)
	must(t, d.Apply(calc.Delta{}))
	if why := d.Facts().Uplinks; why["eth1"] == "" {
		t.Error(why)
	}
}

// The host's default route may lead through its own VM, a virtual router. That VM stays a workload.
func TestAWorkloadThatCarriesTheDefaultRouteStaysAWorkload(t *testing.T) {
	h := newHost(t)
	router := h.plug("cali1", "10.65.0.1")
	w := newWorld()
	w.workload(router)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	cali1, err := netlink.LinkByName("cali1")
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: cali1.Attrs().Index, Dst: defaultRoute(), Scope: netlink.SCOPE_LINK}))
	d.settle(func() bool { l, _ := d.watcher.Links().Named("cali1"); return l.Uplink })
	if why := d.Facts().Uplinks; len(why) > 0 || d.stateOfInterface("cali1") != Enforced {
		t.Errorf("%v, %s", why, d.stateOfInterface("cali1"))
	}
}

// The default route may leave through an interface on top of another one, such as a VLAN. Policy on the lower interface would
// judge the packets of both.
func TestTheParentInterfaceOfAnUplinkIsAnUplink(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	h.Echo(22)
	h.MustRun("ip", "address", "flush", "dev", "eth0")
	h.MustRun("ip", "link", "add", "link", "eth0", "name", "wan0", "type", "macvlan")
	h.MustRun("ip", "address", "add", "192.0.2.2/24", "dev", "wan0")
	wan0 := h.Up("wan0")
	way := &netlink.Route{LinkIndex: wan0.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1), Dst: defaultRoute()}
	must(t, netlink.RouteReplace(way))
	if !outside.Reaches("tcp", hostAddress, 22) {
		t.Fatal("the host does not answer before there is any policy")
	}
	w := newWorld()
	id := w.misnamed("eth0")
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.refuses(id, "eth0 carries the packets of wan0, and so the host's default route", outside)
	if why := d.Facts().Uplinks["eth0"]; !strings.Contains(why, "carries the packets of wan0") {
		t.Errorf("calc receives the reason %q", why)
	}
	must(t, netlink.RouteDel(way))
	d.refuses(id, "eth0 carried the packets of wan0, and so the host's default route before", outside)
}

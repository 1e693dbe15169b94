package dataplane

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/calc"
)

// routesWith returns the routes with a protocol number, sorted.
func (h *host) routesWith(protocol int) (list []string) {
	h.Helper()
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: netlink.RouteProtocol(protocol)}, netlink.RT_FILTER_PROTOCOL)
		must(h, err)
		for _, r := range all {
			list = append(list, fmt.Sprint(r.Dst))
		}
	}
	slices.Sort(list)
	return list
}

func (h *host) wantRoutesWith(why string, protocol int, want ...string) {
	h.Helper()
	slices.Sort(want)
	if got := h.routesWith(protocol); !slices.Equal(got, want) {
		h.Errorf("%s: protocol %d has the routes %q, want %q", why, protocol, got, want)
	}
}

// Routes under a protocol number that deviceRouteProtocol gave before are replaced or removed, also if it changes while no felix runs. Routes of
// another program that uses the number stay.
func TestRoutesUnderAFormerProtocolNumberAreSwept(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			h := newHost(t)
			h.uplink()
			kept, gone := h.plug("cali1", "10.65.0.1", "fd00:65::1"), h.plug("cali2", "10.65.0.2", "fd00:65::2")
			w := newWorld()
			w.Config.DeviceRouteProtocol = 90
			w.workload(kept)
			id := w.workload(gone)
			w.Routes[netip.MustParsePrefix("10.65.0.0/26")] = calc.Route{Kind: calc.BlockHole}
			w.Routes[netip.MustParsePrefix("10.65.1.0/26")] = calc.Route{Kind: calc.BlockHole}
			d := h.run(w, Options{})
			all := []string{"10.65.0.1/32", "fd00:65::1/128", "10.65.0.2/32", "fd00:65::2/128", "10.65.0.0/26", "10.65.1.0/26", "169.254.1.1/32"}
			h.wantRoutesWith("before", 90, all...)

			for _, prefix := range []string{"10.65.0.2/32", "fd00:65::2/128", "10.65.1.0/26"} {
				delete(w.Routes, netip.MustParsePrefix(prefix))
			}
			delete(w.Endpoints, id)
			w.Config.DeviceRouteProtocol = 91
			if restarted {
				must(t, d.Close())
				d = h.start(Options{RouteProtocols: []int{90}})
				d.InSync()
			}
			others := h.addOthers(90)
			must(t, d.become(w))
			h.wantRoutesWith("the number has changed", 90, others...)
			h.wantRoutesWith("the number has changed", 91, "10.65.0.1/32", "fd00:65::1/128", "10.65.0.0/26", "169.254.1.1/32")
			if got := d.FormerRouteProtocols(); !slices.Equal(got, []int{90}) {
				t.Errorf("former protocol numbers: %v", got)
			}
			must(t, d.Close())
			must(t, Uninstall(Options{PinDir: h.pins, Log: h.log, RouteProtocols: []int{90, 91}}))
			h.wantRoutesWith("uninstalled", 90, others...)
			h.wantRoutesWith("uninstalled", 91)
		})
	}
}

// Without a change of the number, routes of a former process that nobody asks for go at once.
func TestRoutesUnderTheConfiguredProtocolNumberAreSweptAtTheStart(t *testing.T) {
	h := newHost(t)
	w := newWorld()
	w.Config.DeviceRouteProtocol = 90
	w.Routes[netip.MustParsePrefix("10.65.0.0/26")] = calc.Route{Kind: calc.BlockHole}
	must(t, h.run(w, Options{}).Close())
	delete(w.Routes, netip.MustParsePrefix("10.65.0.0/26"))
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	h.wantRoutesWith("started again", 90)
}

// addOthers adds routes of another program, and returns their destinations.
func (h *host) addOthers(protocol int) []string {
	h.Helper()
	eth0, err := netlink.LinkByName("eth0")
	must(h, err)
	for _, r := range []netlink.Route{
		{Dst: routeTo("10.77.0.0/24"), Gw: []byte{192, 0, 2, 1}},
		{Dst: routeTo("10.77.1.7/32"), LinkIndex: eth0.Attrs().Index, Scope: netlink.SCOPE_LINK},
		{Dst: routeTo("10.77.2.0/24"), Type: 6}, // RTN_BLACKHOLE, with another metric than felix's
	} {
		r.Protocol = netlink.RouteProtocol(protocol)
		must(h, netlink.RouteAdd(&r))
	}
	return []string{"10.77.0.0/24", "10.77.1.7/32", "10.77.2.0/24"}
}

// Routes to workloads have the metrics of FelixConfiguration. After a change, also one while no felix runs, none with the former metric is left.
func TestRoutesToWorkloadsHaveTheConfiguredMetric(t *testing.T) {
	h := newHost(t)
	w := newWorld()
	w.workload(h.plug("cali1", "10.65.0.1", "fd00:65::1"))
	d := h.run(w, Options{})
	want := func(why string, v4, v6 int) {
		t.Helper()
		var got []int
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			all, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: 86}, netlink.RT_FILTER_PROTOCOL)
			must(t, err)
			for _, r := range all {
				if fmt.Sprint(r.Dst) != "169.254.1.1/32" {
					got = append(got, r.Priority)
				}
			}
		}
		if !slices.Equal(got, []int{v4, v6}) {
			t.Errorf("%s: metrics %v, want %d and %d", why, got, v4, v6)
		}
	}
	want("unset", 0, 1024)
	for _, c := range []struct {
		why       string
		restarted bool
		v4, v6    int
	}{{"larger", false, 700, 2000}, {"smaller", false, 3, 4}, {"changed while no felix ran", true, 900, 800}, {"unset while no felix ran", true, 0, 0}, {"set again", false, 5, 6}} {
		w.Config.RouteMetric4, w.Config.RouteMetric6 = c.v4, c.v6
		if c.restarted {
			must(t, d.Close())
			d = h.start(Options{})
			d.InSync()
		}
		must(t, d.become(w))
		want(c.why, c.v4, cmp.Or(c.v6, 1024))
		if p := d.Status().Repairs; len(p) > 0 {
			t.Errorf("%s: repairs %v", c.why, p)
		}
	}
	must(t, d.Uninstall())
	h.wantRoutesWith("uninstalled", 86)
}

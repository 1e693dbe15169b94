package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/routes"
)

// viaNode returns a route to another node.
func viaNode(gateway string) calc.Route {
	return calc.Route{Kind: calc.ViaNode, Node: "n2", Gateway: netip.MustParseAddr(gateway)}
}

// wantRoutesTo compares the kernel's routes to a prefix, as protocol, gateway and metric in order of metrics.
func (h *host) wantRoutesTo(why, prefix string, want ...string) {
	h.Helper()
	all, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: routeTo(prefix)}, netlink.RT_FILTER_DST)
	must(h, err)
	slices.SortFunc(all, func(a, b netlink.Route) int { return a.Priority - b.Priority })
	var got []string
	for _, r := range all {
		got = append(got, fmt.Sprintf("%d via %v metric %d", r.Protocol, r.Gw, r.Priority))
	}
	if !slices.Equal(got, want) {
		h.Errorf("%s: routes to %s: %q, want %q", why, prefix, got, want)
	}
}

func TestRoutesToOtherNodesAreInTheKernel(t *testing.T) {
	h := newHost(t)
	h.uplink() // 192.0.2.2, and the default route through 192.0.2.1
	w := newWorld()
	w.Routes[netip.MustParsePrefix("10.65.0.0/26")] = calc.Route{Kind: calc.BlockHole}
	w.Routes[netip.MustParsePrefix("10.65.1.0/26")] = viaNode("192.0.2.1")
	w.Routes[netip.MustParsePrefix("10.65.0.7/32")] = viaNode("192.0.2.1") // moved away from a block of this node
	w.Routes[netip.MustParsePrefix("10.65.2.0/26")] = viaNode("203.0.113.9")
	d := h.run(w, Options{})
	defer func() {
		must(t, d.Uninstall())
		h.wantRoutesTo("uninstalled", "10.65.1.0/26")
	}()
	h.wantRoutesTo("to a block", "10.65.1.0/26", "88 via 192.0.2.1 metric 2049")
	if found, err := netlink.RouteGet(netip.MustParseAddr("10.65.0.7").AsSlice()); err != nil || found[0].Gw.String() != "192.0.2.1" {
		t.Errorf("packets to the address that has moved: %v, %v", found, err)
	}
	h.wantRoutesTo("to a node behind a router", "10.65.2.0/26")
	problems := strings.Join(d.Status().Problems, "\n")
	if want := "the route to another node to 10.65.2.0/26 is not in the kernel: the address 203.0.113.9 of its node is on no network"; !strings.Contains(problems, want) {
		t.Errorf("problems: %s", problems)
	}
	delete(w.Routes, netip.MustParsePrefix("10.65.2.0/26"))
	must(t, d.become(w))
	if p := d.Status().Problems; len(p) > 0 {
		t.Errorf("problems: %v", p)
	}

	// An endpoint of this node whose address an older endpoint of the other node has too waits: the traffic goes there.
	vm := h.plug("cali1", "10.65.0.9")
	id := w.workload(vm)
	w.Routes[netip.MustParsePrefix("10.65.0.9/32")] = viaNode("192.0.2.1")
	must(t, d.become(w))
	h.wantRoutesTo("to an address that another node has", "10.65.0.9/32", "88 via 192.0.2.1 metric 2049")
	delete(w.Routes, netip.MustParsePrefix("10.65.0.9/32"))
	must(t, d.become(w))
	d.protectAnew()
	d.Learn(News{Changed: announce("10.65.0.9/32", "192.0.2.3"), Complete: true})
	must(t, d.become(w))
	h.wantRoutesTo("the same by BGP", "10.65.0.9/32", "87 via 192.0.2.3 metric 2048")
	w.Routes[netip.MustParsePrefix("10.65.0.9/32")] = calc.Route{Kind: calc.LocalWorkload, Interface: vm.Device}
	must(t, d.become(w))
	h.wantRoutesTo("taken over", "10.65.0.9/32", "86 via <nil> metric 0")
	d.Learn(News{Changed: announce("10.65.0.9/32"), Complete: true})
	delete(w.Endpoints, id)
	delete(w.Routes, netip.MustParsePrefix("10.65.0.9/32"))
	must(t, d.become(w))

	// A learned route to the same prefix wins as long as it is there.
	d.Learn(News{Changed: announce("10.65.1.0/26", "192.0.2.3"), Complete: true})
	must(t, d.Apply(calc.Delta{}))
	h.wantRoutesTo("learned too", "10.65.1.0/26", "87 via 192.0.2.3 metric 2048", "88 via 192.0.2.1 metric 2049")
	d.Learn(News{Changed: announce("10.65.1.0/26"), Complete: true})
	w.Routes[netip.MustParsePrefix("10.65.1.0/26")] = viaNode("192.0.2.4")
	must(t, d.become(w))
	h.wantRoutesTo("another gateway", "10.65.1.0/26", "88 via 192.0.2.4 metric 2049")

	// The address comes to this node, and goes again.
	w.Routes[netip.MustParsePrefix("10.65.1.0/26")] = calc.Route{Kind: calc.BlockHole}
	must(t, d.become(w))
	h.wantRoutesTo("a block of this node now", "10.65.1.0/26", "86 via <nil> metric 1048576")
}

// Routes of a former process go when the datastore no longer asks for them. Routes of other programs stay, and hinder nobody.
func TestRoutesToOtherNodesOfAnEarlierProcessAreSwept(t *testing.T) {
	h := newHost(t)
	h.uplink()
	must(t, netlink.RouteAdd(&netlink.Route{Dst: routeTo("10.65.9.0/26"), Gw: netip.MustParseAddr("192.0.2.1").AsSlice(), Priority: 2049, Protocol: 4}))
	w := newWorld()
	for _, prefix := range []string{"10.65.1.0/26", "10.65.2.0/26", "10.65.9.0/26"} {
		w.Routes[netip.MustParsePrefix(prefix)] = viaNode("192.0.2.5")
	}
	start := func() *driver {
		d := h.start(Options{})
		d.InSync()
		if err := d.become(w); !errors.Is(err, routes.ErrConflict) {
			t.Errorf("the error is %v", err)
		}
		return d
	}
	must(t, start().Close())
	delete(w.Routes, netip.MustParsePrefix("10.65.2.0/26"))
	d := start()
	defer func() { must(t, d.Uninstall()) }()
	h.wantRoutesTo("wanted", "10.65.1.0/26", "88 via 192.0.2.5 metric 2049")
	h.wantRoutesTo("not wanted any more", "10.65.2.0/26")
	h.wantRoutesTo("an operator's", "10.65.9.0/26", "4 via 192.0.2.1 metric 2049")
	for _, s := range d.Status().Tables {
		if s.Name == "routes to other nodes" && (s.Failed != 1 || !errors.Is(s.Error, routes.ErrConflict)) {
			t.Errorf("status %+v", s)
		}
	}
}

package dataplane

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/routes"
)

// deleteRoutes deletes the routes to a prefix with a protocol number, as an operator would.
func (h *host) deleteRoutes(prefix string, protocol int) {
	h.Helper()
	must(h, netlink.RouteDel(&netlink.Route{Dst: routeTo(prefix), Protocol: netlink.RouteProtocol(protocol), Scope: netlink.SCOPE_NOWHERE}))
}

// The kernel tells of deleted routes by other hosts, so they come back although no time passes for the Driver. Each is told in the log.
func TestDeletedRoutesByOtherHostsComeBackAtOnce(t *testing.T) {
	h := newHost(t)
	h.uplink()
	log := &repairLog{}
	h.log.Logger.AddHook(log)
	w := newWorld()
	w.Routes[netip.MustParsePrefix("10.65.2.0/26")] = viaNode("192.0.2.1")
	c := &clock{time.Now()}
	d := h.run(w, Options{clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	d.Learn(News{Changed: announce("10.65.1.0/26", "192.0.2.1"), Complete: true})
	d.Learn(News{Changed: announce("10.65.3.0/26", "192.0.2.1"), Complete: true})
	must(t, d.Apply(calc.Delta{}))
	if told := log.drain(); told != "" {
		t.Errorf("repair logged without a change by others: %s", told)
	}

	h.deleteRoutes("10.65.1.0/26", routes.LearnedProtocol)
	h.deleteRoutes("10.65.2.0/26", routes.NodeProtocol)
	told := ""
	d.settle(func() bool { told += log.drain(); return strings.Count(told, "(gone)") == 2 })
	h.wantRoutesTo("deleted", "10.65.1.0/26", "87 via 192.0.2.1 metric 2048")
	h.wantRoutesTo("deleted", "10.65.2.0/26", "88 via 192.0.2.1 metric 2049")
	if !strings.Contains(told, "learned routes: 10.65.1.0/26 (gone)") || !strings.Contains(told, "routes to other nodes: 10.65.2.0/26 (gone)") {
		t.Errorf("told %q", told)
	}

	// Another program puts its own route in place of the deleted one. It stays.
	h.deleteRoutes("10.65.3.0/26", routes.LearnedProtocol)
	must(t, netlink.RouteAdd(&netlink.Route{Dst: routeTo("10.65.3.0/26"), Gw: netip.MustParseAddr("192.0.2.9").AsSlice(), Priority: routes.LearnedMetric, Protocol: 4}))
	d.settle(func() bool { return len(d.Status().Problems) > 0 })
	h.wantRoutesTo("another program's", "10.65.3.0/26", "4 via 192.0.2.9 metric 2048")
	if p := strings.Join(d.Status().Problems, "\n"); !strings.Contains(p, "10.65.3.0/26") || !strings.Contains(p, routes.ErrConflict.Error()) {
		t.Errorf("problems: %s", p)
	}
}

package dataplane

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/routes"
)

// learnedInKernel returns a line for each route of BGP peers in the kernel.
func (h *host) learnedInKernel() string {
	h.Helper()
	var lines []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: routes.LearnedProtocol}, netlink.RT_FILTER_PROTOCOL)
		must(h, err)
		for _, r := range all {
			var via []string
			for _, hop := range append(r.MultiPath, &netlink.NexthopInfo{Gw: r.Gw, Via: r.Via, LinkIndex: r.LinkIndex}) {
				via = append(via, gatewayText(hop)...)
			}
			slices.Sort(via)
			lines = append(lines, r.Dst.String()+" via "+strings.Join(via, " "))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// gatewayText is the gateway of a hop if it has one, with the interface if it is link-local.
func gatewayText(hop *netlink.NexthopInfo) []string {
	gateway := hop.Gw
	if via, ok := hop.Via.(*netlink.Via); ok {
		gateway = via.Addr
	}
	if gateway == nil {
		return nil
	}
	if !gateway.IsLinkLocalUnicast() {
		return []string{gateway.String()}
	}
	name := fmt.Sprint(hop.LinkIndex)
	if link, err := netlink.LinkByIndex(hop.LinkIndex); err == nil {
		name = link.Attrs().Name
	}
	return []string{gateway.String() + "%" + name}
}

func (h *host) wantLearned(why string, want ...string) {
	h.Helper()
	slices.Sort(want)
	if got := h.learnedInKernel(); got != strings.Join(want, "\n") {
		h.Errorf("%s: the kernel has\n%s\nwant\n%s", why, got, strings.Join(want, "\n"))
	}
}

// learn has peers announce routes, or withdraw them, and brings that into the kernel.
func (d *driver) learn(changes map[netip.Prefix][]netip.Addr) {
	d.h.Helper()
	d.Learn(News{Changed: changes, Complete: true})
	must(d.h, d.Apply(calc.Delta{}))
}

// announce returns one change of routes of BGP peers.
func announce(prefix string, hops ...string) map[netip.Prefix][]netip.Addr {
	var next []netip.Addr
	for _, h := range hops {
		next = append(next, netip.MustParseAddr(h))
	}
	return map[netip.Prefix][]netip.Addr{netip.MustParsePrefix(prefix): next}
}

func TestLearnedRoutesAreInTheKernel(t *testing.T) {
	h := newHost(t)
	h.uplink() // 192.0.2.2, and the default route through 192.0.2.1
	h.plug("eth1", "198.51.100.1").Up("eth0", "198.51.100.1/24", "fd99::1/64")
	h.Up("eth1", "198.51.100.2/24", "fd99::2/64")
	w := newWorld()
	w.Routes[netip.MustParsePrefix("10.65.0.0/26")] = calc.Route{Kind: calc.BlockHole}
	w.BGP.Peers = map[string]calc.Peer{"tor": {Object: "tor", Address: netip.MustParseAddr("192.0.2.1")}}
	d := h.run(w, Options{})
	defer func() {
		must(t, d.Uninstall())
		h.wantLearned("uninstalled")
	}()

	d.learn(announce("10.65.1.0/26", "192.0.2.1"))
	d.learn(announce("fd00:65::/64", "fd99::1"))
	h.wantLearned("announced", "10.65.1.0/26 via 192.0.2.1", "fd00:65::/64 via fd99::1")
	d.learn(announce("10.65.1.0/26", "192.0.2.1", "198.51.100.1"))
	h.wantLearned("a second router", "10.65.1.0/26 via 192.0.2.1 198.51.100.1", "fd00:65::/64 via fd99::1")
	d.learn(announce("10.65.1.0/26", "198.51.100.1"))
	h.wantLearned("one of two", "10.65.1.0/26 via 198.51.100.1", "fd00:65::/64 via fd99::1")
	d.learn(announce("fd00:65::/64"))
	h.wantLearned("withdrawn", "10.65.1.0/26 via 198.51.100.1")

	d.learn(announce("10.65.0.7/32", "198.51.100.1")) // a workload that has moved away from this node
	h.wantLearned("inside of the own block", "10.65.1.0/26 via 198.51.100.1", "10.65.0.7/32 via 198.51.100.1")
	if found, err := netlink.RouteGet(netip.MustParseAddr("10.65.0.7").AsSlice()); err != nil || found[0].Gw.String() != "198.51.100.1" {
		t.Errorf("packets to the workload that has moved: %v, %v", found, err)
	}
	d.learn(announce("10.65.0.7/32"))
	d.learn(announce("10.65.0.0/16", "198.51.100.1")) // around the own block, which has a route of its own
	h.wantLearned("around the own block", "10.65.0.0/16 via 198.51.100.1", "10.65.1.0/26 via 198.51.100.1")
	d.learn(announce("10.65.0.0/16"))

	// Next hops behind a router, on no connected network, and behind a route of our own.
	d.learn(announce("10.65.2.0/26", "203.0.113.9"))
	h.wantLearned("behind the default route", "10.65.1.0/26 via 198.51.100.1", "10.65.2.0/26 via 192.0.2.1")
	d.learn(announce("10.65.2.0/26", "10.65.1.9"))
	h.wantLearned("behind our own route", "10.65.1.0/26 via 198.51.100.1")
	if p := strings.Join(d.Status().Problems, "\n"); !strings.Contains(p, "10.65.2.0/26") || !strings.Contains(p, "only by routes of felix") {
		t.Errorf("problems: %s", p)
	}
	d.learn(announce("10.65.2.0/26"))
	if p := d.Status().Problems; len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
}

// A new peer's address is protected with the pass that brings the peer, and free with the pass that takes it, although nothing else
// changes.
func TestLearnedRoutesFollowAChangeOfPeers(t *testing.T) {
	h := newHost(t)
	h.uplink()
	w := newWorld()
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.Learn(News{Changed: announce("10.66.0.0/24", "192.0.2.1"), Complete: true})
	must(t, d.Apply(calc.Delta{}))
	h.wantLearned("no peer", "10.66.0.0/24 via 192.0.2.1")
	must(t, d.Apply(calc.Delta{BGP: &calc.BGP{Peers: map[string]calc.Peer{"far": {Object: "far", Address: netip.MustParseAddr("10.66.0.9")}}}}))
	h.wantLearned("a peer inside of the prefix")
	must(t, d.Apply(calc.Delta{BGP: &calc.BGP{}}))
	h.wantLearned("the peer has gone", "10.66.0.0/24 via 192.0.2.1")
}

// A hop that is announced again must keep its life, or a route that the kernel dropped meanwhile is not written again.
func TestAHopThatStaysKeepsItsResolution(t *testing.T) {
	prefix, hop := netip.MustParsePrefix("10.66.0.0/24"), netip.MustParseAddr("192.0.2.1")
	l := hopRoutes{
		announced: map[netip.Prefix][]netip.Addr{prefix: {hop}}, uses: map[netip.Addr]int{hop: 1},
		resolved: map[netip.Addr]resolution{hop: {life: 7}}, pending: map[netip.Prefix]struct{}{},
	}
	l.note(prefix, []netip.Addr{hop, netip.MustParseAddr("192.0.2.2")})
	if l.resolved[hop].life != 7 || l.uses[hop] != 1 || len(l.uses) != 2 {
		t.Errorf("resolved %v, uses %v", l.resolved, l.uses)
	}
	l.note(prefix, nil)
	if len(l.resolved) != 0 || len(l.uses) != 0 {
		t.Errorf("withdrawn: resolved %v, uses %v", l.resolved, l.uses)
	}
}

// programClusterRoutes keeps learned routes to pools out of the kernel. The metric of the others can be set while felix runs, and each
// route then has only the new one.
func TestLearnedRoutesFollowTheConfiguration(t *testing.T) {
	h := newHost(t)
	h.uplink()
	w := newWorld()
	pool := netip.MustParsePrefix("10.65.0.0/16")
	w.Pools[pool] = calc.Pool{CIDR: pool}
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.Learn(News{Changed: announce("10.65.1.0/26", "192.0.2.1"), Complete: true})
	d.Learn(News{Changed: announce("10.66.1.0/26", "192.0.2.1"), Complete: true})
	must(t, d.Apply(calc.Delta{}))
	h.wantRoutesTo("by default", "10.66.1.0/26", "87 via 192.0.2.1 metric 2048")
	w.BGP.Metric4, w.BGP.NoPools = 1024, true
	must(t, d.become(w))
	h.wantRoutesTo("another metric", "10.66.1.0/26", "87 via 192.0.2.1 metric 1024")
	h.wantRoutesTo("in a pool", "10.65.1.0/26")
	if p := d.Status().Problems; len(p) > 0 {
		t.Errorf("problems: %v", p)
	}
	w.BGP = calc.BGP{}
	must(t, d.become(w))
	h.wantRoutesTo("by default again", "10.65.1.0/26", "87 via 192.0.2.1 metric 2048")
	h.wantRoutesTo("by default again", "10.66.1.0/26", "87 via 192.0.2.1 metric 2048")
}

// A peer cannot take over addresses that this host needs. Each refusal of a network is reported.
func TestLearnedRoutesDoNotTakeOverAddressesOfThisHost(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	h.Echo(22)
	w := newWorld()
	w.Routes[netip.MustParsePrefix("10.65.0.0/26")] = calc.Route{Kind: calc.BlockHole}
	w.BGP.Peers = map[string]calc.Peer{"tor": {Object: "tor", Address: netip.MustParseAddr("192.0.2.1")}}
	vm := h.plug("cali1", "10.65.0.5")
	w.workload(vm)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.Protect([]netip.Addr{netip.MustParseAddr("203.0.113.79")})
	for prefix, why := range map[string]string{
		"10.65.0.0/26":    "it covers 10.65.0.0/26, a block of this node",
		"10.65.0.5/32":    "",
		"192.0.2.2/32":    "",
		"192.0.2.0/25":    "it covers 192.0.2.1/32, the address of a BGP peer",
		"203.0.113.79/32": "",
		"203.0.113.0/24":  "it covers 203.0.113.79/32, an address of etcd",
		"127.0.0.0/8":     "not for unicast",
		"224.0.0.0/4":     "not for unicast",
		"169.254.0.0/16":  "not for unicast",
	} {
		d.Learn(News{Changed: announce(prefix, "192.0.2.1"), Complete: true})
		must(t, d.Apply(calc.Delta{}))
		h.wantLearned(prefix)
		problems := strings.Join(d.Status().Problems, "\n")
		if want := fmt.Sprintf("the learned route to %s is not in the kernel: ", prefix); (why != "") != strings.Contains(problems, want) ||
			!strings.Contains(problems, why) {
			t.Errorf("%s: problems: %q", prefix, problems)
		}
		d.Learn(News{Changed: announce(prefix), Complete: true})
	}
	// A filter has accepted this one, otherwise it would not come here. The host's own default route has a lower metric.
	d.Learn(News{Changed: announce("0.0.0.0/0", "192.0.2.1"), Complete: true})
	must(t, d.Apply(calc.Delta{}))
	h.wantLearned("a default route", "0.0.0.0/0 via 192.0.2.1")
	if p := d.Status().Problems; len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
	if !outside.Reaches("tcp", hostAddress, 22) {
		t.Error("the host does not answer")
	}
}

// Routes of an earlier process stay until the peers have announced everything. Routes of other programs always stay.
func TestLearnedRoutesOfAnEarlierProcessStayUntilAllAreLearned(t *testing.T) {
	h := newHost(t)
	h.uplink()
	h.RouteVia("10.65.9.0/26", "192.0.2.1") // a route of an operator
	d := h.run(newWorld(), Options{})
	d.Learn(News{Changed: announce("10.65.1.0/26", "192.0.2.1"), Complete: true})
	d.Learn(News{Changed: announce("10.65.2.0/26", "192.0.2.1"), Complete: true})
	d.Learn(News{Changed: announce("10.65.9.0/26", "192.0.2.1"), Complete: true})
	must(t, d.Apply(calc.Delta{}))
	must(t, d.Close())
	all := []string{"10.65.1.0/26 via 192.0.2.1", "10.65.2.0/26 via 192.0.2.1", "10.65.9.0/26 via 192.0.2.1"}
	h.wantLearned("felix has stopped", all...)

	d = h.run(newWorld(), Options{})
	defer func() { must(t, d.Uninstall()) }()
	h.wantLearned("nothing is announced yet", all...)
	d.Learn(News{Changed: announce("10.65.1.0/26", "192.0.2.1")})
	must(t, d.Apply(calc.Delta{}))
	h.wantLearned("not everything is announced yet", all...)
	d.Learn(News{Complete: true})
	must(t, d.Apply(calc.Delta{}))
	h.wantLearned("everything is announced", all[0])

	d.Learn(News{Changed: announce("10.65.2.0/26", "192.0.2.1"), Complete: true})
	must(t, d.Apply(calc.Delta{}))
	h.wantLearned("a second prefix", all[:2]...)
	d.Learn(News{Anew: true})
	d.Learn(News{Changed: announce("10.65.2.0/26", "192.0.2.1")})
	must(t, d.Apply(calc.Delta{}))
	h.wantLearned("another speaker has not learned everything yet", all[:2]...)
	d.Learn(News{Anew: true, Changed: announce("10.65.2.0/26", "192.0.2.1")}) // once more
	d.Learn(News{Complete: true})
	must(t, d.Apply(calc.Delta{}))
	h.wantLearned("the other speaker has learned everything", all[1])
	static, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: routeTo("10.65.9.0/26")}, netlink.RT_FILTER_DST)
	if err != nil || len(static) != 1 {
		t.Errorf("the operator's route: %v, %v", static, err)
	}
}

// The kernel removes routes without a notification when an interface goes down. They return with the interface.
func TestLearnedRoutesComeBackWithTheirInterface(t *testing.T) {
	h := newHost(t)
	h.uplink()
	d := h.run(newWorld(), Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.Learn(News{Changed: announce("10.65.1.0/26", "192.0.2.1"), Complete: true})
	must(t, d.Apply(calc.Delta{}))
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.LinkSetDown(eth0))
	d.settle(func() bool { return h.learnedInKernel() == "" && len(d.Status().Problems) == 1 })
	must(t, netlink.LinkSetUp(eth0))
	d.settle(func() bool { return h.learnedInKernel() == "10.65.1.0/26 via 192.0.2.1" })
	must(t, netlink.LinkSetDown(eth0)) // down and up again before the next pass
	must(t, netlink.LinkSetUp(eth0))
	d.settle(func() bool { return h.learnedInKernel() == "10.65.1.0/26 via 192.0.2.1" })
}

// While the datastore is locked policy stays as it is, but routes of peers come and go.
func TestLearnedRoutesFollowWhileTheDatastoreIsLocked(t *testing.T) {
	h := newHost(t)
	h.uplink()
	w := newWorld()
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.Learn(News{Changed: announce("10.65.1.0/26", "192.0.2.1"), Complete: true})
	must(t, d.Apply(calc.Delta{}))
	w.Ready = false
	must(t, d.become(w))
	d.Learn(News{Changed: announce("10.65.1.0/26"), Complete: true})
	d.Learn(News{Changed: announce("10.65.2.0/26", "192.0.2.1"), Complete: true})
	must(t, d.Apply(calc.Delta{}))
	h.wantLearned("locked", "10.65.2.0/26 via 192.0.2.1")
}

func routeTo(prefix string) *net.IPNet {
	p := netip.MustParsePrefix(prefix)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

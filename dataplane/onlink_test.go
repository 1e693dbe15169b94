package dataplane

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
)

// Two routers have one link-local address on two interfaces. Routes of both families are by the interface of the peer that announces them.
func TestLearnedRoutesLeaveByTheInterfaceOfALinkLocalNextHop(t *testing.T) {
	h := newHost(t)
	h.uplink() // 192.0.2.2, and the default route through 192.0.2.1
	for _, dev := range []string{"eth1", "eth2"} {
		h.plug(dev, "198.51.100.1").Up("eth0", "fe80::1/64", "2001:db8:1::1/64")
		h.Up(dev, "fe80::2/64")
	}
	h.Up("eth1", "2001:db8:1::2/64")
	d := h.run(newWorld(), Options{})
	defer func() {
		must(t, d.Uninstall())
		h.wantLearned("uninstalled")
	}()
	for _, prefix := range []string{"10.66.0.0/24", "2001:db8:66::/64"} {
		d.learn(announce(prefix, "fe80::1%eth1"))
		h.wantLearned("one router", prefix+" via fe80::1%eth1")
		d.learn(announce(prefix, "fe80::1%eth1", "fe80::1%eth2"))
		h.wantLearned("two routers", prefix+" via fe80::1%eth1 fe80::1%eth2")
		d.learn(announce(prefix, "fe80::1%eth2"))
		h.wantLearned("the other router", prefix+" via fe80::1%eth2")
		d.learn(announce(prefix, "2001:db8:1::1%eth1"))
		h.wantLearned("an address of the interface's network", prefix+" via 2001:db8:1::1")
		for hop, why := range map[string]string{
			"2001:db8:1::1%eth2": "2001:db8:1::1%eth2 is on no network of its interface", // it is on eth1
			"2001:db8:9::1%eth1": "2001:db8:9::1%eth1 is on no network of its interface",
			"fe80::1%eth9":       "the interface of the next hop fe80::1%eth9 does not exist",
		} {
			d.learn(announce(prefix, hop))
			h.wantLearned(hop)
			if p := strings.Join(d.Status().Problems, "\n"); !strings.Contains(p, "the learned route to "+prefix+" is not in the kernel: ") || !strings.Contains(p, why) {
				t.Errorf("%s: problems: %s", hop, p)
			}
		}
		d.learn(announce(prefix))
	}
	if p := d.Status().Problems; len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
	// IPv4 by next hops of both families.
	d.learn(announce("10.66.0.0/24", "192.0.2.1", "fe80::1%eth1"))
	h.wantLearned("both families", "10.66.0.0/24 via 192.0.2.1 fe80::1%eth1")
}

// The kernel removes the routes by an interface that goes down or is deleted. They return with an interface of that name.
func TestLearnedRoutesFollowTheInterfaceOfALinkLocalNextHop(t *testing.T) {
	h := newHost(t)
	h.uplink()
	plug := func() {
		h.plug("eth1", "198.51.100.1").Up("eth0", "fe80::1/64")
		h.Up("eth1", "fe80::2/64")
	}
	plug()
	d := h.run(newWorld(), Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.Learn(News{Changed: announce("10.66.0.0/24", "fe80::1%eth1"), Complete: true})
	d.Learn(News{Changed: announce("2001:db8:66::/64", "fe80::1%eth1"), Complete: true})
	must(t, d.Apply(calc.Delta{}))
	const both = "10.66.0.0/24 via fe80::1%eth1\n2001:db8:66::/64 via fe80::1%eth1"
	h.wantLearned("announced", strings.Split(both, "\n")...)
	eth1, err := netlink.LinkByName("eth1")
	must(t, err)
	must(t, netlink.LinkSetDown(eth1))
	d.settle(func() bool {
		return h.learnedInKernel() == "" && strings.Contains(strings.Join(d.Status().Problems, "\n"), "fe80::1%eth1 is down")
	})
	must(t, netlink.LinkSetUp(eth1))
	d.settle(func() bool { return h.learnedInKernel() == both })
	must(t, netlink.LinkDel(eth1))
	d.settle(func() bool {
		return h.learnedInKernel() == "" && strings.Contains(strings.Join(d.Status().Problems, "\n"), "fe80::1%eth1 does not exist")
	})
	plug()
	d.settle(func() bool { return h.learnedInKernel() == both })
}

// Routes of an earlier process by link-local next hops are found as they are, and not written again.
func TestRoutesByLinkLocalNextHopsOfAnEarlierProcessStay(t *testing.T) {
	h := newHost(t)
	h.uplink()
	h.plug("eth1", "198.51.100.1").Up("eth0", "fe80::1/64")
	h.Up("eth1", "fe80::2/64")
	d := h.run(newWorld(), Options{})
	four, six := announce("10.66.0.0/24", "fe80::1%eth1", "192.0.2.1"), announce("2001:db8:66::/64", "fe80::1%eth1")
	d.Learn(News{Changed: four, Complete: true})
	d.Learn(News{Changed: six, Complete: true})
	must(t, d.Apply(calc.Delta{}))
	must(t, d.Close())
	changes := h.FollowRoutes(87)
	d = h.run(newWorld(), Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.Learn(News{Changed: four})
	d.Learn(News{Changed: six})
	must(t, d.Apply(calc.Delta{}))
	d.Learn(News{Complete: true})
	must(t, d.Apply(calc.Delta{}))
	h.wantLearned("restarted", "10.66.0.0/24 via 192.0.2.1 fe80::1%eth1", "2001:db8:66::/64 via fe80::1%eth1")
	d.Learn(News{Changed: announce("10.66.0.0/24"), Complete: true}) // so that there is one last change to wait for
	must(t, d.Apply(calc.Delta{}))
	lab.Await(t, func() error {
		if got := strings.Join(changes(), "\n"); !strings.Contains(got, "delete 10.66.0.0/24") {
			return fmt.Errorf("changes of routes: %q", got)
		}
		return nil
	})
	if got := changes(); len(got) != 1 {
		t.Errorf("changes of routes: %v", got)
	}
}

// A link-local peer can take over no address that this host needs, with routes of either family.
func TestRoutesOfLinkLocalPeersDoNotTakeOverAddressesOfThisHost(t *testing.T) {
	h := newHost(t)
	h.uplink()
	h.plug("eth1", "198.51.100.1").Up("eth0", "fe80::1/64")
	h.Up("eth1", "fe80::2/64")
	w := newWorld()
	w.Routes[netip.MustParsePrefix("10.65.0.0/26")] = calc.Route{Kind: calc.BlockHole}
	w.Routes[netip.MustParsePrefix("fd65::/122")] = calc.Route{Kind: calc.BlockHole}
	w.BGP.Peers = map[string]calc.Peer{"leaf": {Object: "leaf", Address: netip.MustParseAddr("fe80::1%eth1")}}
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.Protect([]netip.Addr{netip.MustParseAddr("203.0.113.79"), netip.MustParseAddr("2001:db8:79::79")})
	for prefix, why := range map[string]string{
		"10.65.0.0/26":     "a block of this node",
		"fd65::/122":       "a block of this node",
		"203.0.113.0/24":   "an address of etcd",
		"2001:db8:79::/64": "an address of etcd",
		"fe80::/64":        "not for unicast",
		"fe80::1/128":      "not for unicast",
		"169.254.0.0/16":   "not for unicast",
	} {
		d.Learn(News{Changed: announce(prefix, "fe80::1%eth1"), Complete: true})
		must(t, d.Apply(calc.Delta{}))
		h.wantLearned(prefix)
		if problems := strings.Join(d.Status().Problems, "\n"); !strings.Contains(problems, "the learned route to "+prefix+" is not in the kernel: ") ||
			!strings.Contains(problems, why) {
			t.Errorf("%s: problems: %q", prefix, problems)
		}
		d.Learn(News{Changed: announce(prefix), Complete: true})
	}
	d.Learn(News{Changed: announce("10.65.0.7/32", "fe80::1%eth1"), Complete: true}) // a workload that has moved away
	must(t, d.Apply(calc.Delta{}))
	h.wantLearned("inside of the own block", "10.65.0.7/32 via fe80::1%eth1")
}

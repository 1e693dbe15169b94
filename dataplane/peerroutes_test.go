package dataplane

import (
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/routes"
)

// reach adds a BGP peer that is reached by a gateway.
func (w world) reach(name, address, gateway string) {
	a, g := netip.MustParseAddr(address), netip.MustParseAddr(gateway)
	w.BGP.Peers = maps.Clone(w.BGP.Peers) // the Driver has the former map
	w.BGP.Peers[name] = calc.Peer{Object: name, Address: a, Gateway: g}
	w.Routes[netip.PrefixFrom(a, a.BitLen())] = calc.Route{Kind: calc.ToPeer, Peer: name, Gateway: g}
}

// leave removes such a peer.
func (w world) leave(name string) {
	delete(w.Routes, netip.PrefixFrom(w.BGP.Peers[name].Address, 32))
	w.BGP.Peers = maps.Clone(w.BGP.Peers)
	delete(w.BGP.Peers, name)
}

// newWorldWithPeers returns a world whose State has no BGP peers yet.
func newWorldWithPeers() world {
	w := newWorld()
	w.BGP.Peers = map[string]calc.Peer{}
	return w
}

// wantUnreached compares the peers without a route with the wanted ones: why each has none, by name.
func (d *driver) wantUnreached(w world, want map[string]string) {
	d.h.Helper()
	got := d.Unreached(w.BGP.Peers)
	for name, why := range want {
		if !strings.Contains(got[name], why) {
			d.h.Errorf("peer %s is unreached because %q, want %q", name, got[name], why)
		}
	}
	if len(got) != len(want) {
		d.h.Errorf("unreached peers: %v, want %v", got, want)
	}
}

func TestRoutesToBGPPeersAreInTheKernel(t *testing.T) {
	h := newHost(t)
	h.uplink() // 192.0.2.2, and the default route through 192.0.2.1
	w := newWorldWithPeers()
	w.reach("leaf", "10.255.0.1", "192.0.2.5")
	w.reach("far", "10.255.0.2", "203.0.113.9")
	w.reach("itself", "192.0.2.2", "192.0.2.5")
	w.BGP.Peers["plain"] = calc.Peer{Object: "plain", Address: netip.MustParseAddr("192.0.2.1")}
	d := h.run(w, Options{})
	defer func() {
		must(t, d.Uninstall())
		h.wantRoutesTo("uninstalled", "10.255.0.1/32")
	}()
	h.wantRoutesTo("to a peer", "10.255.0.1/32", "89 via 192.0.2.5 metric 2047")
	h.wantRoutesTo("by a gateway behind a router", "10.255.0.2/32")
	d.wantUnreached(w, map[string]string{
		"far": "the gateway 203.0.113.9 is on no network of this host", "itself": "192.0.2.2/32, an address of this host",
	})
	problems := strings.Join(d.Status().RouteProblems, "\n")
	for _, want := range []string{
		"the route to a BGP peer to 10.255.0.2/32 is not in the kernel: the gateway 203.0.113.9", "the route to a BGP peer to 192.0.2.2/32 is not in the kernel",
	} {
		if !strings.Contains(problems, want) {
			t.Errorf("problems %q, want %q", problems, want)
		}
	}
	w.leave("far")
	w.leave("itself")
	must(t, d.become(w))
	if p := d.Status().Problems; len(p) > 0 {
		t.Errorf("problems: %v", p)
	}

	w.reach("leaf", "10.255.0.1", "192.0.2.6")
	must(t, d.become(w))
	h.wantRoutesTo("another gateway", "10.255.0.1/32", "89 via 192.0.2.6 metric 2047")
	w.BGP.Metric4 = 1
	must(t, d.become(w))
	h.wantRoutesTo("the smallest metric", "10.255.0.1/32", "89 via 192.0.2.6 metric 1")
	w.BGP.Metric4 = 0
	w.leave("leaf")
	must(t, d.become(w))
	h.wantRoutesTo("the BGPPeer has gone", "10.255.0.1/32")
}

// Packets to a peer leave by its gateway, also if other peers announce its address. The next hop of a learned route may be the peer.
func TestLearnedRoutesLeaveTheRouteToAPeerAlone(t *testing.T) {
	h := newHost(t)
	h.uplink()
	w := newWorldWithPeers()
	w.BGP.Peers["leaf"] = calc.Peer{Object: "leaf", Address: netip.MustParseAddr("10.255.0.1")}
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	learn := func(prefix string, hops ...string) {
		t.Helper()
		d.Learn(News{Changed: announce(prefix, hops...), Complete: true})
		must(t, d.Apply(calc.Delta{}))
	}
	learn("10.255.0.0/16", "192.0.2.5")
	h.wantLearned("a network with a peer that others reach")
	w.reach("leaf", "10.255.0.1", "192.0.2.5")
	must(t, d.become(w))
	h.wantLearned("a network with a peer that has a route of its own", "10.255.0.0/16 via 192.0.2.5")
	learn("10.255.0.1/32", "192.0.2.7") // the peer's own address
	learn("192.0.2.4/31", "192.0.2.7")  // around the gateway
	learn("10.66.0.0/24", "10.255.0.1") // by the peer
	h.wantLearned("by the peer", "10.255.0.0/16 via 192.0.2.5", "10.66.0.0/24 via 192.0.2.5")
	if found, err := netlink.RouteGet(netip.MustParseAddr("10.255.0.1").AsSlice()); err != nil || found[0].Gw.String() != "192.0.2.5" {
		t.Errorf("packets to the peer: %v, %v", found, err)
	}
	learn("192.0.2.4/31")
	w.reach("leaf", "10.255.0.1", "192.0.2.6")
	must(t, d.become(w))
	h.wantLearned("another gateway", "10.255.0.0/16 via 192.0.2.5", "10.66.0.0/24 via 192.0.2.6")

	// The way to a gateway must not need the peer.
	w.reach("behind", "10.255.0.9", "10.66.0.5")
	must(t, d.become(w))
	d.wantUnreached(w, map[string]string{"behind": "the gateway 10.66.0.5 is on no network"})
	h.wantRoutesTo("a gateway behind the peer", "10.255.0.9/32")
}

// Routes to peers outlive the process. Afterwards those that nobody asks for go, and routes of other programs stay.
func TestRoutesToBGPPeersOfAnEarlierProcessAreSwept(t *testing.T) {
	h := newHost(t)
	h.uplink()
	must(t, netlink.RouteAdd(&netlink.Route{Dst: routeTo("10.255.0.9/32"), Gw: netip.MustParseAddr("192.0.2.1").AsSlice(), Priority: 2047, Protocol: 4}))
	w := newWorldWithPeers()
	w.reach("leaf1", "10.255.0.1", "192.0.2.5")
	w.reach("leaf2", "10.255.0.2", "192.0.2.5")
	d := h.run(w, Options{})
	must(t, d.Close())
	h.wantRoutesTo("between two processes", "10.255.0.1/32", "89 via 192.0.2.5 metric 2047")
	w.leave("leaf2")
	w.reach("taken", "10.255.0.9", "192.0.2.5")
	d = h.start(Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.InSync()
	if err := d.become(w); err == nil || !strings.Contains(err.Error(), routes.ErrConflict.Error()) {
		t.Errorf("the error is %v", err)
	}
	h.wantRoutesTo("wanted", "10.255.0.1/32", "89 via 192.0.2.5 metric 2047")
	h.wantRoutesTo("not wanted any more", "10.255.0.2/32")
	h.wantRoutesTo("an operator's", "10.255.0.9/32", "4 via 192.0.2.1 metric 2047")
	d.wantUnreached(w, map[string]string{"taken": routes.ErrConflict.Error()})
	for _, s := range d.Status().Tables {
		if s.Name == "routes to BGP peers" && (s.Wanted != 2 || s.Programmed != 1 || s.Failed != 1) {
			t.Errorf("status %+v", s)
		}
	}
	h.deleteRoutes("10.255.0.9/32", 4)
	d.settle(func() bool { return len(d.Unreached(w.BGP.Peers)) == 0 })
	h.deleteRoutes("10.255.0.1/32", routes.PeerProtocol)
	d.settle(func() bool { return d.Status().Repairs["routes to BGP peers"] == 1 })
	h.wantRoutesTo("deleted by hand", "10.255.0.1/32", "89 via 192.0.2.5 metric 2047")
}

// A start without a datastore keeps the routes to peers, and makes those that are missing. So does a locked datastore.
func TestRoutesToBGPPeersStayWithoutADatastore(t *testing.T) {
	h := newHost(t)
	h.uplink()
	w := newWorldWithPeers()
	w.reach("leaf1", "10.255.0.1", "192.0.2.5")
	w.reach("leaf2", "10.255.0.2", "192.0.2.5")
	w.reach("gone", "10.255.0.3", "192.0.2.5")
	must(t, h.run(w, Options{}).Close())
	w.leave("gone")
	h.deleteRoutes("10.255.0.2/32", routes.PeerProtocol)
	d := h.start(Options{})
	defer func() { must(t, d.Uninstall()) }()
	if _, err := d.Resume(Former{BGP: w.BGP}); err != nil {
		t.Fatal(err)
	}
	d.wantUnreached(w, map[string]string{"leaf1": "has not made it yet", "leaf2": "has not made it yet"})
	must(t, d.Apply(calc.Delta{}))
	d.wantUnreached(w, nil)
	for _, prefix := range []string{"10.255.0.1/32", "10.255.0.2/32", "10.255.0.3/32"} {
		h.wantRoutesTo("without a datastore", prefix, "89 via 192.0.2.5 metric 2047")
	}
	d.InSync()
	must(t, d.become(w))
	h.wantRoutesTo("the input is complete", "10.255.0.3/32")

	w.Ready = false
	w.leave("leaf2")
	must(t, d.become(w))
	h.wantRoutesTo("locked", "10.255.0.2/32", "89 via 192.0.2.5 metric 2047")
	w.Ready = true
	must(t, d.become(w))
	h.wantRoutesTo("unlocked", "10.255.0.2/32")
	h.wantRoutesTo("unlocked", "10.255.0.1/32", "89 via 192.0.2.5 metric 2047")
}

package dataplane

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
)

// A BGP peer with a link-local address hears of this host as of a router, also on an interface that was made anew. It gets no default
// route by that. Other networks hear nothing.
func TestLinkLocalPeersHearOfThisHost(t *testing.T) {
	h := newHost(t)
	h.uplink()
	plug := func(dev string) *vm {
		v := h.plug(dev, "198.51.100.1")
		v.Sysctl("ipv6/conf/eth0/accept_ra", "2")
		v.Up("eth0", "fe80::1/64")
		h.Sysctl("ipv6/conf/"+dev+"/addr_gen_mode", "1")
		h.Up(dev, "fe80::2/64")
		return v
	}
	leaf, other := plug("eth1"), plug("eth2")
	w := newWorld()
	w.BGP.Peers = map[string]calc.Peer{"leaf": {Object: "leaf", Address: netip.MustParseAddr("fe80::1%eth1")}}
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.settle(leaf.knowsRouter)
	if routes := leaf.MustRun("ip", "-6", "route", "show", "default"); routes != "" {
		t.Errorf("the peer has a default route: %s", routes)
	}
	if other.knowsRouter() {
		t.Error("another network hears of this host")
	}
	must(t, netlink.LinkDel(h.Link("eth1")))
	leaf = plug("eth1")
	d.settle(leaf.knowsRouter)
	if before := d.advertising.due; before.IsZero() || d.nextDue(d.clock()).After(before) {
		t.Errorf("the next advertisement is due at %v, the next pass at %v", before, d.nextDue(d.clock()))
	}
	w = newWorld()
	must(t, d.become(w))
	if !d.advertising.due.IsZero() {
		t.Error("advertisements are due without a peer")
	}
}

// knowsRouter says whether a router advertisement from fe80::2 has arrived.
func (v *vm) knowsRouter() (known bool) {
	v.h.Helper()
	v.Must(func() error {
		entries, err := netlink.NeighList(v.Link("eth0").Attrs().Index, netlink.FAMILY_V6)
		for _, e := range entries {
			known = known || e.IP.Equal(net.ParseIP("fe80::2")) && e.Flags&unix.NTF_ROUTER != 0
		}
		return err
	})
	return known
}

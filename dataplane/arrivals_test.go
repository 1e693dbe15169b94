package dataplane

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// remember gives a neighbour a former entry for an address. remembered returns the entry's MAC address.
func (v *vm) remember(address string, mac net.HardwareAddr) {
	v.h.Helper()
	v.Must(func() error {
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: v.Link("eth0").Attrs().Index, IP: net.ParseIP(address), HardwareAddr: mac, State: unix.NUD_STALE,
		})
	})
}

func (v *vm) remembered(address string) (mac string) {
	v.h.Helper()
	v.Must(func() error {
		entries, err := netlink.NeighList(v.Link("eth0").Attrs().Index, netlink.FAMILY_ALL)
		for _, e := range entries {
			if e.IP.Equal(net.ParseIP(address)) {
				mac = e.HardwareAddr.String()
			}
		}
		return err
	})
	return mac
}

// A network whose own prefix contains a workload's address, and on which the host answers for it, is told that the workload is here.
// Networks that only route to the host are told nothing.
func TestNetworksThatResolveAWorkloadAreToldOfItsArrival(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	h.Up("eth0", "fd98::2/64")
	outside.Up("eth0", "fd98::1/64")
	h.ProxyARP("eth0")
	h.Sysctl("ipv6/conf/eth0/proxy_ndp", "1")
	eth0 := h.Link("eth0")
	must(t, netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: eth0.Attrs().Index, Family: netlink.FAMILY_V6, Flags: netlink.NTF_PROXY, IP: net.ParseIP("fd98::50"),
	}))
	former := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	addresses := []string{"192.0.2.50", "fd98::50", "10.65.0.5", "fd98::51"} // on the network, routed, and without an entry of the proxy
	for _, a := range addresses {
		outside.remember(a, former)
	}

	d := h.run(newWorld(), Options{})
	defer func() { must(t, d.Uninstall()) }()
	w := newWorld()
	w.workload(h.plug("cali1", addresses...))
	must(t, d.become(w))
	here := eth0.Attrs().HardwareAddr.String()
	h.until("the neighbour to know", func() bool {
		return outside.remembered("192.0.2.50") == here && outside.remembered("fd98::50") == here
	})
	for _, a := range addresses[2:] {
		if mac := outside.remembered(a); mac != former.String() {
			t.Errorf("the neighbour has %s for %s", mac, a)
		}
	}

	// Nothing is told twice for good, and nothing when felix starts again.
	d.settle(func() bool { return len(d.arrivals.told) == 0 })
	must(t, d.Close())
	outside.remember("192.0.2.50", former)
	d = h.run(w, Options{})
	if entry, _ := d.routes.Wants(netip.MustParsePrefix("192.0.2.50/32")); !entry.Programmed || len(d.arrivals.told) > 0 {
		t.Errorf("after a restart the route is %+v, and these are told: %v", entry, d.arrivals.told)
	}
}

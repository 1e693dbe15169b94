package dataplane

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/calc"
)

// bridge makes a bridge like a network of libvirt: STP, no delay, and the gateway's address on the bridge.
func (h *host) bridge(name, gateway string) netlink.Link {
	h.Helper()
	h.MustRun("ip", "link", "add", name, "type", "bridge", "stp_state", "1", "forward_delay", "0")
	return h.Up(name, gateway)
}

// join makes a VM's interface a port of a bridge, and gives the VM an address of the bridge's network.
func (m *vm) join(bridge netlink.Link, prefix string) {
	m.h.Helper()
	m.h.Join(m.Device, bridge)
	m.Up("eth0", prefix)
}

// An endpoint names a port of a bridge, such as a port of libvirt's default network. Felix closes the port and gives advice.
// It makes no route through the port, because that would take the VM's packets from the bridge. It changes no setting of
// the port.
func TestABridgePortIsClosedWithAdvice(t *testing.T) {
	h := newHost(t)
	routed := h.plug("cali1", "10.65.0.1", "fd00:65::1")
	bridged := h.plug("vnet0", "10.65.0.2", "fd00:65::2")
	other := h.plug("vnet1", "10.65.0.3", "fd00:65::3")
	virbr0 := h.bridge("virbr0", "192.168.122.1/24")
	bridged.join(virbr0, "192.168.122.10/24")
	other.join(virbr0, "192.168.122.11/24")
	bridged.Echo(80)
	other.Echo(80)
	toBridged, toOther := netip.MustParseAddr("192.168.122.10"), netip.MustParseAddr("192.168.122.11")
	h.until("the bridge to forward", func() bool { return other.ReachesAtOnce("tcp", toBridged, 80) })
	w := newWorld()
	w.workload(routed)
	id := w.workload(bridged)
	ep := w.Endpoints[id]
	ep.Addresses = append(ep.Addresses, toBridged)
	w.Endpoints[id] = ep
	w.Routes[netip.PrefixFrom(toBridged, 32)] = calc.Route{Kind: calc.LocalWorkload, Interface: "vnet0"}
	proxy := readSetting(t, "net/ipv4/conf/vnet0/proxy_arp")
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()

	for _, i := range d.Status().Interfaces {
		if i.Name == "vnet0" && (i.State != Closed || !strings.Contains(i.Reason, "vnet0 is a port of virbr0") || !strings.Contains(i.Reason, "ip link set vnet0 nomaster")) {
			t.Errorf("vnet0 is %s: %s", i.State, i.Reason)
		}
	}
	if routes := h.MustRun("ip", "route", "show", "proto", "86"); strings.Contains(routes, "vnet0") {
		t.Errorf("routes through the port:\n%s", routes)
	}
	if now := readSetting(t, "net/ipv4/conf/vnet0/proxy_arp"); now != proxy {
		t.Errorf("proxy_arp of the port is %s", now)
	}
	if other.ReachesAtOnce("tcp", toBridged, 80) || bridged.ReachesAtOnce("tcp", toOther, 80) {
		t.Error("the closed port is open")
	}
	waits := false
	for _, r := range d.dumpRoutes() {
		waits = waits || r.Destination == netip.PrefixFrom(toBridged, 32) && r.State == "waiting" && strings.Contains(r.Error, "port of virbr0")
	}
	if !waits {
		t.Errorf("the missing route is not reported as waiting: %+v", d.dumpRoutes())
	}

	link, err := netlink.LinkByName("vnet0")
	must(t, err)
	must(t, netlink.LinkSetNoMaster(link)) // follows the advice
	d.settle(func() bool {
		return d.stateOfInterface("vnet0") == Enforced && routed.ReachesAtOnce("tcp", bridged.Addresses[0], 80)
	})
	must(t, netlink.LinkSetMaster(link, virbr0)) // becomes a port again while felix runs
	d.settle(func() bool { return d.stateOfInterface("vnet0") == Closed })
	if routes := h.MustRun("ip", "route", "show", "proto", "86"); strings.Contains(routes, "vnet0") {
		t.Errorf("routes through the port after its return:\n%s", routes)
	}
}

// A VM on the bridge has no endpoint. It keeps its connectivity beside routed VMs.
func TestABridgeWithoutEndpointsIsLeftAlone(t *testing.T) {
	h := newHost(t)
	routed := h.plug("cali1", "10.65.0.1", "fd00:65::1")
	one := h.plug("vnet0", "10.65.0.2", "fd00:65::2")
	two := h.plug("vnet1", "10.65.0.3", "fd00:65::3")
	virbr0 := h.bridge("virbr0", "192.168.122.1/24")
	one.join(virbr0, "192.168.122.10/24")
	two.join(virbr0, "192.168.122.11/24")
	two.Echo(80)
	w := newWorld()
	w.workload(routed)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	h.until("the bridge to forward", func() bool { return one.ReachesAtOnce("tcp", netip.MustParseAddr("192.168.122.11"), 80) })
	if state := d.stateOfInterface("vnet0"); state != NoPolicy {
		t.Errorf("vnet0 is %s", state)
	}
}

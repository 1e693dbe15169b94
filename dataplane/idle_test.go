package dataplane

import (
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/calc"
)

func TestAnEndpointMatchesAnAlternativeInterfaceName(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	cali2, err := netlink.LinkByName("cali2")
	must(t, err)
	must(t, netlink.LinkAddAltName(cali2, "vm-web"))
	w := newWorld()
	w.workload(client)
	server.Device = "vm-web"
	w.protect(w.workload(server), 80)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.settle(func() bool { return d.stateOfInterface("cali2") == Enforced && d.routes.Status().Failed == 0 })
	if !client.Reaches("tcp", server.Addresses[0], 80) || client.ReachesAtOnce("tcp", server.Addresses[0], 81) {
		t.Error("the interface does not have the endpoint's policy")
	}
	must(t, netlink.LinkDelAltName(cali2, "vm-web"))
	d.settle(func() bool { return d.stateOfInterface("cali2") == Closed })
}

func TestAnEndpointMatchesTheAliasOfAnInterface(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	cali2, err := netlink.LinkByName("cali2")
	must(t, err)
	w := newWorld()
	w.workload(client)
	server.Device = "vm-web"
	w.protect(w.workload(server), 80)
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.settle(func() bool { return d.stateOfInterface("cali2") == Closed }) // its name has the prefix of workloads
	must(t, netlink.LinkSetAlias(cali2, "vm-web"))
	d.settle(func() bool { return d.stateOfInterface("cali2") == Enforced && d.routes.Status().Failed == 0 })
	if !client.Reaches("tcp", server.Addresses[0], 80) || client.ReachesAtOnce("tcp", server.Addresses[0], 81) {
		t.Error("the interface does not have the endpoint's policy")
	}
	must(t, netlink.LinkSetAlias(cali2, "another"))
	d.settle(func() bool { return d.stateOfInterface("cali2") == Closed })
}

func TestAWorkloadCannotUseTheAliasOfAnUplink(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	h.Echo(22)
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.LinkSetAlias(eth0, "vm-web"))
	w := newWorld()
	id := w.misnamed("vm-web")
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.refuses(id, "eth0 carries the host's default route", outside)
}

func TestAWorkloadCannotUseAnAlternativeNameOfAnUplink(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	h.Echo(22)
	eth0, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.LinkAddAltName(eth0, "enp9s0"))
	w := newWorld()
	id := w.misnamed("enp9s0")
	d := h.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	d.refuses(id, "carries the host's default route", outside)
	if why := d.Facts().Uplinks["enp9s0"]; !strings.Contains(why, "default route") {
		t.Errorf("calc receives the reason %q", why)
	}
}

func TestStatusShowsHowLongAnEndpointHasNoInterface(t *testing.T) {
	h := newHost(t)
	c := &clock{now: time.Now()}
	d := h.start(Options{clock: c.time})
	d.InSync()
	w := newWorld()
	id := w.protectHost("typo", "etho0", 80)
	must(t, d.become(w))
	defer func() { must(t, d.Uninstall()) }()
	idle := func() time.Duration {
		for _, i := range d.Status().Interfaces {
			if i.Endpoint == id {
				return i.Idle
			}
		}
		return -1
	}
	c.now = c.now.Add(time.Minute)
	d.plan.pending = true // as after a change
	must(t, d.Apply(calc.Delta{}))
	if got := idle(); got != time.Minute {
		t.Errorf("idle for %v", got)
	}
	h.plug("etho0", "10.65.0.9")
	d.settle(func() bool { return idle() == 0 })
}

package main

import (
	"errors"
	"net"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/internal/lab"
)

// A second uplink, without the Node's address, loses its default route while felix does not run. The wrong endpoint still
// exists when felix starts again.
func TestAnUplinkStaysAnUplinkAfterARestart(t *testing.T) {
	const hostSide, otherSide = "198.51.100.10", "198.51.100.1"
	l := newSite(t)
	l.startEtcd()
	lab.Cable(l.host, "eth1", l.client, "eth1")
	l.host.Up("eth1", hostSide+"/24")
	l.client.Up("eth1", otherSide+"/24")
	l.host.Echo(port)
	route := func(change func(*netlink.Route) error) {
		t.Helper()
		l.host.Must(func() error {
			link, err := netlink.LinkByName("eth1")
			if err != nil {
				return err
			}
			return change(&netlink.Route{
				LinkIndex: link.Attrs().Index, Gw: net.ParseIP(otherSide), Priority: 200,
				Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
			})
		})
	}
	route(netlink.RouteAdd)
	const endpoint = "WorkloadEndpoint(shop/host1-libvirt-uplink-eth0)"
	l.apply(openProfile + workload("uplink", "eth1", "10.65.0.9"))
	f := l.startSynced()
	f.awaitProblem(endpoint, "eth1 carries the host's default route")
	lab.Await(t, func() error {
		record, _, err := l.store.ReadAgentRecord(t.Context(), "host1")
		if err == nil && record.Uplinks["eth1"] == "" {
			err = errors.New("the uplink is not recorded")
		}
		return err
	})

	f.kill()
	route(netlink.RouteDel)
	f = l.startSynced()
	f.awaitProblem(endpoint, "eth1 carried the host's default route before", "deleted and created again")
	f.awaitApplied()
	if !l.stillReaches(hostSide) {
		t.Error("the host is cut off")
	}

	l.delete("WorkloadEndpoint", "shop", "host1-libvirt-uplink-eth0")
	f.awaitApplied()
	l.apply(workload("uplink", "eth1", "10.65.0.9"))
	f.awaitEnforced("eth1")
}

package dataplane

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/dataplane/interfaces"
)

// uplinkCare knows the interfaces by which the host reaches others.
type uplinkCare struct {
	memory interfaces.UplinkMemory
	etcd   []netip.Addr
	due    time.Time // of the next look at the ways to etcd and the peers
}

// lookAtWays is the time between two looks at the ways to etcd and BGP peers: a route to one of them may change without
// any change of an interface.
const lookAtWays = 10 * time.Second

// Protect says at which addresses the agent reaches etcd. The interfaces that lead there never become a workload's.
func (d *Driver) Protect(etcd []netip.Addr) {
	if !slices.Equal(d.uplinks.etcd, etcd) {
		d.uplinks.etcd, d.uplinks.due = slices.Clone(etcd), time.Time{}
		d.plan.pending = true // learned routes must not take over these addresses
	}
}

// RecallUplinks says which interfaces were uplinks in a former life of the agent, and what they carried.
func (d *Driver) RecallUplinks(carried map[string]string) {
	d.uplinks.memory.Recall(carried)
	d.plan.pending = true
	d.signal()
}

// ReleaseUplink says that the operator deleted an endpoint that named this interface. If the interface carries nothing for the
// host now, a workload may have it.
func (d *Driver) ReleaseUplink(name string) {
	d.uplinks.memory.Release(name)
	d.plan.pending = true
	d.signal()
}

// Uplinks returns what each uplink carries or carried, by the interface's name.
func (d *Driver) Uplinks() map[string]string {
	return d.uplinks.memory.Carried()
}

// observeUplinks notes which interfaces carry traffic of the host, before the plan gives interfaces to workloads.
func (d *Driver) observeUplinks(now time.Time) {
	links, revision := d.watcher.Snapshot()
	if !d.plan.pending && d.plan.revision == revision && now.Before(d.uplinks.due) {
		return
	}
	d.uplinks.due = now.Add(lookAtWays)
	if d.uplinks.memory.Observe(links, d.carries(links)) {
		d.plan.pending = true
		d.signal() // the calculation must know
	}
}

// carries says which traffic of the host each interface carries now, by index. An interface on which a workload's policy is in
// force stays the workload's, even if the host's way leads through that workload.
func (d *Driver) carries(links interfaces.Links) map[int]string {
	found := map[int]string{}
	note := func(index int, format string, about ...any) {
		if link, there := links[index]; there && !link.Loopback && !d.enforced[index] && found[index] == "" {
			found[index] = fmt.Sprintf(format, about...)
		}
	}
	bgp := &d.state.BGP
	for index, link := range links {
		if link.Uplink {
			note(index, "the host's default route")
		}
		for _, own := range []netip.Addr{bgp.V4.Addr(), bgp.V6.Addr()} {
			if slices.Contains(link.Addresses, own) {
				note(index, "the node's address %v", own)
			}
		}
	}
	for _, at := range d.uplinks.etcd {
		for _, index := range d.watcher.Way(at) {
			note(index, "the traffic to etcd at %v", at)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(bgp.Peers)) {
		peer := bgp.Peers[name]
		if peer.IsWorkload() {
			continue
		}
		for _, index := range d.watcher.Way(peer.Address) {
			note(index, "the traffic to BGP peer %v", peer.Address)
		}
		if !peer.Gateway.IsValid() {
			continue
		}
		for _, index := range d.watcher.Way(peer.Gateway) {
			note(index, "the traffic to the gateway %v of BGP peer %v", peer.Gateway, peer.Address)
		}
	}
	for noted := 0; noted < len(found); { // an interface below another may have further ones below it
		noted = len(found)
		for _, index := range slices.Sorted(maps.Keys(found)) { // sorted, because a reason that varies would count as a change
			for below, link := range links {
				if found[below] == "" && links.Carries(link, links[index]) {
					note(below, "the packets of %s, and so %s", links[index].Name, found[index])
				}
			}
		}
	}
	return found
}

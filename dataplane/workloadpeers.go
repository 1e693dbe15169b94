package dataplane

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/dataplane/peering"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/dataplane/table"
)

// workloadPeering looks after the addresses of this host at which workloads peer with it.
type workloadPeering struct {
	table *table.Table[peering.Place, struct{}]
	ports map[string]uint16          // by the name of the interface to a workload that peers: the port of our speaker
	links map[string]interfaces.Link // those interfaces, by the names that the endpoints give them
	why   map[string]string          // why others have no address, by these names
}

func (d *Driver) makePeeringTable() {
	d.peering.table = table.New("peering addresses", stepped[peering.Place, struct{}]{d, "peering address", peering.Kernel{}},
		func(a, b struct{}) bool { return true })
}

// changesPeering says whether a Delta, which is not in the State yet, changes which workloads peer with this host, or where.
func (d *Driver) changesPeering(delta calc.Delta) bool {
	return delta.BGP != nil && !maps.Equal(peeringPorts(*delta.BGP), peeringPorts(d.state.BGP))
}

// door is the address of this host at which the workload of an interface peers.
type door struct {
	device  string
	address netip.Addr
}

// peeringPorts returns the port of each door.
func peeringPorts(bgp calc.BGP) map[door]uint16 {
	doors := map[door]uint16{}
	for _, p := range bgp.Peers {
		if p.IsWorkload() {
			doors[door{p.Interface, p.Source}] = bgp.ListenPort
		}
	}
	return doors
}

// planPeering tells the table which addresses are wanted. An interface that is a port of a bridge gets none: the bridge has its packets.
func (d *Driver) planPeering(before interfaces.Links) {
	p := &d.peering
	p.ports, p.links, p.why = map[string]uint16{}, map[string]interfaces.Link{}, map[string]string{}
	wanted := map[peering.Place]struct{}{}
	workloads, masters := d.workloads()
	for door, port := range peeringPorts(d.state.BGP) {
		link, there := workloads[door.device]
		if master := masters[door.device].Master; master != "" {
			p.why[door.device] = fmt.Sprintf("interface %s is a port of %s, and felix peers only with workloads on interfaces of their own", door.device, master)
			continue
		}
		if !there {
			p.why[door.device] = fmt.Sprintf("interface %s does not exist, or is not under the policy of the workload", door.device)
			continue
		}
		p.ports[link.Name], p.links[door.device] = port, link
		wanted[peering.Place{Interface: link.Index, Address: door.address}] = struct{}{}
	}
	d.peering.table.WantExactly(wanted)
	for place := range wanted {
		d.heedLoss(place, before[place.Interface])
	}
}

// heedLoss has an address written again that has gone from its interface: the kernel removes those of IPv6 from one that goes down.
func (d *Driver) heedLoss(place peering.Place, before interfaces.Link) {
	now := d.plan.links[place.Interface]
	switch {
	case before.Life != now.Life:
		d.peering.table.Rewrite(place)
	case slices.Contains(before.Addresses, place.Address) && !slices.Contains(now.Addresses, place.Address):
		d.peering.table.Lost(place)
	}
}

// localsOf returns the addresses of this host, and what they are for.
func (d *Driver) localsOf(links interfaces.Links) map[netip.Addr]uint8 {
	locals := map[netip.Addr]uint8{}
	for _, a := range links.Addresses() {
		locals[a.WithZone("")] = layout.LocalHost
	}
	for place := range d.peering.table.Wanted() {
		locals[place.Address] = layout.LocalPeering
	}
	return locals
}

// keepPeering brings the addresses to the interfaces.
func (d *Driver) keepPeering(now time.Time) error { return d.peering.table.Reconcile(now, true) }

// whyNotPeering says why a workload may not peer with this host yet: its interface lacks the address where it would connect. It is empty if it
// may. The former process has given the interfaces their addresses if its state is in force.
func (d *Driver) whyNotPeering(p calc.Peer) string {
	if d.resumed != nil {
		if link, there := d.plan.links.Named(p.Interface); there && slices.Contains(link.Addresses, p.Source) {
			return ""
		}
		return fmt.Sprintf("interface %s lacks the address %v of the node", p.Interface, p.Source)
	}
	if why := d.peering.why[p.Interface]; why != "" {
		return why
	}
	entry, wanted := d.peering.table.Wants(peering.Place{Interface: d.peering.links[p.Interface].Index, Address: p.Source})
	switch {
	case wanted && entry.Programmed:
		return ""
	case wanted && entry.Error != nil:
		return fmt.Sprintf("interface %s has no address %v of the node: %v", p.Interface, p.Source, entry.Error)
	}
	return fmt.Sprintf("felix has not given interface %s the address %v of the node yet", p.Interface, p.Source)
}

// toWorkload returns the way to a next hop that is a workload, by its own interface. felix's own route to it must be in the kernel.
func (d *Driver) toWorkload(next netip.Addr, link interfaces.Link) ([]routes.Hop, error) {
	prefix := netip.PrefixFrom(next, next.BitLen())
	entry, wanted := d.routes.Wants(prefix)
	routed := wanted && entry.Programmed && entry.Value.Interface == link.Index
	if d.resumed != nil {
		routed = slices.Contains(d.resumed.routes, prefix)
	}
	if !routed {
		return nil, fmt.Errorf("the route to the workload %v, which is the next hop, is not in the kernel", next)
	}
	return []routes.Hop{{Gateway: next, Interface: link.Index}}, nil
}

// isWorkloads says whether an interface is a workload's, now or under a former process.
func (d *Driver) isWorkloads(link interfaces.Link) bool {
	return d.plan.assigned[link.Index].Role == interfaces.Workload || d.enforced[link.Index]
}

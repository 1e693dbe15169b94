package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/dataplane/routes"
)

// find returns the way to a next hop. A next hop with a zone comes from a peer with a link-local address, and is on the network of the
// interface that the zone names.
func (d *Driver) find(l *hopRoutes, next netip.Addr) ([]routes.Hop, error) {
	switch {
	case next.Zone() != "":
		return d.onLink(l, next, d.plan.links)
	case l.forPeers:
		return l.kernel.Gateway(next)
	case l.adjacent:
		return l.kernel.Neighbour(next)
	}
	return l.kernel.Resolve(next)
}

// onLink returns the way to a next hop on the network of an interface. Every interface has the network of link-local addresses, so
// no route says where they are. Another address must be on a network of this interface: a default route by another one must not count. On the
// interface of a workload it must be the workload itself.
func (d *Driver) onLink(l *hopRoutes, next netip.Addr, links interfaces.Links) ([]routes.Hop, error) {
	if link, is := d.peering.links[next.Zone()]; is {
		return d.toWorkload(next.WithZone("").Unmap(), link)
	}
	link, there := links.Named(next.Zone())
	switch {
	case !there:
		return nil, fmt.Errorf("the interface of the next hop %v does not exist: bring it back, or correct peerIP of the BGPPeer", calc.HopText(next))
	case !link.Up:
		return nil, fmt.Errorf("the interface of the next hop %v is down: bring it up", calc.HopText(next))
	}
	hop := routes.Hop{Gateway: next.WithZone("").Unmap(), Interface: link.Index}
	if next.IsLinkLocalUnicast() {
		return []routes.Hop{hop}, nil
	}
	if d.isWorkloads(link) {
		return d.toWorkload(hop.Gateway, link)
	}
	found, err := l.kernel.Resolve(hop.Gateway)
	if err != nil || len(found) != 1 || found[0] != hop {
		return nil, fmt.Errorf("the next hop %v is on no network of its interface: give the interface an address of that network, "+
			"or have the peer announce its link-local address as the next hop", next)
	}
	return found, nil
}

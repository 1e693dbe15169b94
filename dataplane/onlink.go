package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/dataplane/routes"
)

// find returns the way to a next hop. A next hop with a zone comes from a peer with a link-local address, and is on the network of the
// interface that the zone names.
func (l *hopRoutes) find(next netip.Addr, links interfaces.Links) ([]routes.Hop, error) {
	switch {
	case next.Zone() != "":
		return l.onLink(next, links)
	case l.forPeers:
		return l.kernel.Gateway(next)
	case l.adjacent:
		return l.kernel.Neighbour(next)
	}
	return l.kernel.Resolve(next)
}

// onLink returns the way to a next hop on the network of an interface. Every interface has the network of link-local addresses, so
// no route says where they are. Another address must be on a network of this interface: a default route by another one must not count.
func (l *hopRoutes) onLink(next netip.Addr, links interfaces.Links) ([]routes.Hop, error) {
	link, there := links.Named(next.Zone())
	switch {
	case !there:
		return nil, fmt.Errorf("the interface of the next hop %v does not exist: bring it back, or correct peerIP of the BGPPeer", next)
	case !link.Up:
		return nil, fmt.Errorf("the interface of the next hop %v is down: bring it up", next)
	}
	hop := routes.Hop{Gateway: next.WithZone(""), Interface: link.Index}
	if next.IsLinkLocalUnicast() {
		return []routes.Hop{hop}, nil
	}
	found, err := l.kernel.Resolve(hop.Gateway)
	if err != nil || len(found) != 1 || found[0] != hop {
		return nil, fmt.Errorf("the next hop %v is on no network of its interface: give the interface an address of that network, "+
			"or have the peer announce its link-local address as the next hop", next)
	}
	return found, nil
}

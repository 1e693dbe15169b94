package calc

import (
	"fmt"
	"net/netip"
)

// LinkLocal says whether the session with the peer is between link-local addresses of an interface, which is the zone of the address.
func (p Peer) LinkLocal() bool { return p.Address.Zone() != "" }

// Carries says whether the session carries IPv4 or IPv6 routes. Between link-local addresses it carries both: there is no IPv4 session
// on such a link (RFC 8950). Any other session carries the routes of its own family, as Calico's do.
func (p Peer) Carries(v4 bool) bool { return Carries(p.Address, v4) }

// Carries says whether a session with a peer at an address carries IPv4 or IPv6 routes.
func Carries(peer netip.Addr, v4 bool) bool { return peer.Zone() != "" || peer.Is4() == v4 }

// notOnLink says why there can be no session with a link-local address. It is empty for every other address.
func (r *bgpReader) notOnLink(a netip.Addr) string {
	switch {
	case a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "":
		return fmt.Sprintf("the link-local address %v is on every interface, so there is no session with it: write peerIP with the interface, as %[1]v%%eth0", a)
	case a.Zone() != "" && r.bgp.ClusterID.IsValid():
		return fmt.Sprintf("this node is a route reflector and would pass on routes with the next hop %v, which nobody else reaches, "+
			"so there is no session with it: peer by another address", a)
	}
	return ""
}

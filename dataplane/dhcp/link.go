package dhcp

import (
	"net"
	"net/netip"
	"slices"
	"time"
)

// Gateway stands for the host on the link of every workload. It is the DHCP server's address too.
var Gateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// Times of what a workload gets. It renews early, so that a change arrives, and keeps what it has for a day when no agent runs.
const (
	renewAfter  = 30 * time.Minute
	rebindAfter = 21 * time.Hour
	lifetime    = 24 * time.Hour
	// routerLifetime is the longest that a router advertisement can name (RFC 8319, section 4): a workload keeps its default route while no
	// agent runs.
	routerLifetime = 65535 * time.Second
)

// Link is the host's side of the link to one workload.
type Link struct {
	Name      string
	MAC       net.HardwareAddr
	LinkLocal netip.Addr // of the host; not valid while it has none, and then nothing of IPv6 is answered
	MTU       int
	Life      uint64 // changes when the link was down
	Guest     Guest
}

// Guest is what the datastore says about a workload.
type Guest struct {
	Addresses []netip.Addr
	MAC       net.HardwareAddr // nil: any
	Hostname  string           // empty: none is given
	Resolvers []netip.Addr
}

// equal says whether a workload would get the same answers on both links.
func (l Link) equal(m Link) bool {
	return l.Name == m.Name && slices.Equal(l.MAC, m.MAC) && l.LinkLocal == m.LinkLocal && l.MTU == m.MTU && l.Life == m.Life &&
		slices.Equal(l.Guest.Addresses, m.Guest.Addresses) && slices.Equal(l.Guest.MAC, m.Guest.MAC) &&
		l.Guest.Hostname == m.Guest.Hostname && slices.Equal(l.Guest.Resolvers, m.Guest.Resolvers)
}

// addresses4 returns the guest's IPv4 addresses. DHCP gives the first.
func (g Guest) addresses4() []netip.Addr { return filter(g.Addresses, netip.Addr.Is4) }

func (g Guest) addresses6() []netip.Addr { return filter(g.Addresses, netip.Addr.Is6) }

func (g Guest) isMAC(mac net.HardwareAddr) bool { return g.MAC == nil || slices.Equal(g.MAC, mac) }

func filter(addresses []netip.Addr, is func(netip.Addr) bool) (found []netip.Addr) {
	for _, a := range addresses {
		if is(a) {
			found = append(found, a)
		}
	}
	return found
}

func ips(addresses []netip.Addr) (list []net.IP) {
	for _, a := range addresses {
		list = append(list, a.AsSlice())
	}
	return list
}

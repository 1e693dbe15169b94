package dhcp

import (
	"net/netip"

	"github.com/mdlayher/ndp"
)

// advertisement names this host as the router of the link. It names no prefix, so a workload makes no address of its own: it asks by DHCP
// (the flags M and O).
func (l Link) advertisement() ([]byte, error) {
	m := &ndp.RouterAdvertisement{
		CurrentHopLimit: 64, ManagedConfiguration: true, OtherConfiguration: true, RouterLifetime: routerLifetime,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: l.MAC}},
	}
	if l.MTU >= 1280 {
		m.Options = append(m.Options, ndp.NewMTU(uint32(l.MTU)))
	}
	if resolvers := filter(l.Guest.Resolvers, netip.Addr.Is6); len(resolvers) > 0 {
		m.Options = append(m.Options, &ndp.RecursiveDNSServer{Lifetime: routerLifetime, Servers: resolvers})
	}
	return ndp.MarshalMessage(m)
}

package dataplane

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/calc"
)

// peerRoutes are the routes to BGP peers by the gateways that their BGPPeers name.
type peerRoutes struct {
	hopRoutes
	gateways map[netip.Prefix]netip.Addr // in the State, by the address of the peer
	inKernel map[netip.Prefix]string     // the routes that the kernel has, as text
}

// noteRoutesToPeers notes the routes to BGP peers in a Delta. keepRoutesToPeers brings them into the kernel.
func (d *Driver) noteRoutesToPeers(delta calc.Delta) {
	for prefix, r := range delta.Routes {
		if r.Kind == calc.ToPeer {
			d.toPeers.gateways[prefix] = r.Gateway
		} else {
			delete(d.toPeers.gateways, prefix)
		}
	}
	for _, prefix := range delta.RoutesGone {
		delete(d.toPeers.gateways, prefix)
	}
}

// followGateways has the routes to BGP peers follow the State, or the state of the former process while that is in force.
func (d *Driver) followGateways() {
	gateways := d.toPeers.gateways
	if d.resumed != nil {
		gateways = map[netip.Prefix]netip.Addr{}
		for prefix, r := range calc.PeerRoutes(d.resumed.bgp.Peers) {
			gateways[prefix] = r.Gateway
		}
	}
	for prefix := range d.toPeers.announced {
		if _, still := gateways[prefix]; !still {
			d.toPeers.note(prefix, nil)
		}
	}
	for prefix, gateway := range gateways {
		if !slices.Equal(d.toPeers.announced[prefix], []netip.Addr{gateway}) {
			d.toPeers.note(prefix, []netip.Addr{gateway})
		}
	}
}

// keepRoutesToPeers brings the routes to BGP peers into the kernel. Learned routes depend on them: next hops may be peers, and the address of a
// peer needs less protection while it has a route of its own.
func (d *Driver) keepRoutesToPeers(now time.Time) error {
	d.toPeers.complete = d.resumed == nil
	err := d.keepHopRoutes(&d.toPeers.hopRoutes, now)
	inKernel := map[netip.Prefix]string{}
	for prefix, entry := range d.toPeers.table.Wanted() {
		if entry.Programmed {
			inKernel[prefix] = entry.Value.String()
		}
	}
	if !maps.Equal(inKernel, d.toPeers.inKernel) {
		d.toPeers.inKernel = inKernel
		d.learned.serial = 0
	}
	return err
}

// Unreached returns the peers, by name, whose route by their gateway is not in the kernel, and why. They may get no session: packets to
// them would take another way. Among them are workloads whose interface lacks the address of this host where they would connect. It must be called after Apply, on the loop.
func (d *Driver) Unreached(peers map[string]calc.Peer) map[string]string {
	unreached := map[string]string{}
	for name, p := range peers {
		if p.IsWorkload() {
			if why := d.whyNotPeering(p); why != "" {
				unreached[name] = why
			}
		}
		if !p.Gateway.IsValid() {
			continue
		}
		prefix := netip.PrefixFrom(p.Address, p.Address.BitLen())
		if why := d.whyUnreached(prefix); why != "" {
			unreached[name] = fmt.Sprintf("the route to it by the gateway %v is not in the kernel: %s", p.Gateway, why)
		}
	}
	return unreached
}

func (d *Driver) whyUnreached(prefix netip.Prefix) string {
	entry, wanted := d.toPeers.table.Wants(prefix)
	switch {
	case d.toPeers.refused[prefix] != "":
		return d.toPeers.refused[prefix]
	case !wanted:
		return "felix has not made it yet"
	case entry.Programmed:
		return ""
	case entry.Error != nil:
		return entry.Error.Error()
	}
	return "felix has not written it yet"
}

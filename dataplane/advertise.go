package dataplane

import (
	"net"
	"time"

	"github.com/margay-project/margay/dataplane/neighbour"
)

// advertising tells BGP peers with link-local addresses this host's own one. Routers that name a neighbour by the interface only, as FRR
// can, open no session before they have heard a router advertisement from it.
type advertising struct {
	due  time.Time      // of the next advertisements; zero: there is no such peer
	told map[int]uint64 // the lives of the interfaces on which they were sent, by index
}

// A router that starts later must not wait long. RFC 4861, section 6.2.1 allows up to one every 3 s.
const advertiseEvery = 5 * time.Second

// advertise sends what is due, and at once on an interface that is new.
func (d *Driver) advertise(now time.Time) {
	a, due := &d.advertising, !now.Before(d.advertising.due)
	told := map[int]uint64{}
	for _, p := range d.bgpInForce().Peers {
		link, there := d.plan.links.Named(p.Address.Zone())
		if !p.LinkLocal() || !there || !link.Up {
			continue
		}
		if life, known := a.told[link.Index]; due || !known || life != link.Life {
			mac, _ := net.ParseMAC(link.MAC)
			if err := neighbour.TellRouter(neighbour.Interface{Index: link.Index, Name: link.Name, MAC: mac}); err != nil {
				d.Log.WithError(err).Debug("routers that know this host only by their interface open no session before the next try")
			}
		}
		told[link.Index] = link.Life
	}
	a.told = told
	switch {
	case len(told) == 0:
		a.due = time.Time{}
	case due:
		a.due = now.Add(advertiseEvery)
	}
}

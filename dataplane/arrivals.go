package dataplane

import (
	"net"
	"net/netip"
	"time"

	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/dataplane/neighbour"
	"github.com/margay-project/margay/dataplane/routes"
)

// arrivals are addresses of workloads whose routes are new. Networks of the host that contain one are told (package neighbour), at once
// and once more after a second, because nobody acknowledges the message.
type arrivals struct {
	fresh, told []netip.Addr
	again       time.Time // when told is told once more
}

const tellAgain = time.Second

// arriving is the table.Target of local routes. It notes the addresses whose routes it has written.
type arriving struct {
	*routes.Kernel
	d *Driver
}

func (t arriving) Put(prefix netip.Prefix, r routes.Route) error {
	err := t.Kernel.Put(prefix, r)
	if err == nil && r.Kind == routes.Workload && prefix.IsSingleIP() {
		t.d.arrivals.fresh = append(t.d.arrivals.fresh, prefix.Addr())
	}
	return err
}

// tellArrivals sends the messages that are due. One that cannot be sent is told in the log: the neighbours find out by themselves, later.
func (d *Driver) tellArrivals(now time.Time) {
	a := &d.arrivals
	due := a.fresh
	if len(a.told) > 0 && !a.again.After(now) {
		for _, address := range a.told {
			if _, wanted := d.routes.Wants(netip.PrefixFrom(address, address.BitLen())); wanted {
				due = append(due, address)
			}
		}
		a.told = nil
	}
	if len(due) == 0 {
		return
	}
	if len(a.fresh) > 0 {
		a.told, a.again = append(a.told, a.fresh...), now.Add(tellAgain)
	}
	a.fresh = nil
	var on []neighbour.Interface
	for index, l := range d.plan.links {
		mac, err := net.ParseMAC(l.MAC)
		if l.Up && !l.Loopback && !l.Layer3 && err == nil && len(mac) == 6 && d.plan.assigned[index].Role != interfaces.Workload {
			on = append(on, neighbour.Interface{Index: index, Name: l.Name, MAC: mac})
		}
	}
	if _, err := neighbour.Tell(due, on); err != nil {
		d.Log.WithError(err).Warn("neighbours may send packets for a moved workload to its former host until their entries expire")
	}
}

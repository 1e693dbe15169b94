package dataplane

import "time"

// schedule has Wake deliver when the next work is due.
func (d *Driver) schedule() {
	now := d.clock()
	if at := d.nextDue(now); !at.IsZero() {
		d.timer.Reset(max(at.Sub(now), time.Millisecond))
	}
}

// nextDue is when the next pass has work; zero: nothing is due. While the datastore is locked, a pass does less, and only that
// part counts here: the rest would stay due and have passes made without end.
func (d *Driver) nextDue(now time.Time) (at time.Time) {
	due := func(t time.Time, is bool) {
		if is && !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	due(now.Add(time.Second), d.inSync && d.gateErr != nil)
	due(d.flows.due, d.shared != nil)
	due(d.hooks.audit.next(), d.shared != nil)
	due(d.learned.table.Retry())
	due(d.learned.due, len(d.learned.uses) > 0)
	due(d.advertising.due, true)
	due(d.toPeers.table.Retry())
	due(d.toPeers.due, len(d.toPeers.uses) > 0)
	if !d.inSync || !d.state.Ready {
		return at
	}
	due(d.arrivals.again, len(d.arrivals.told) > 0)
	due(d.guests.due, len(d.guests.links) > 0)
	due(d.toNodes.table.Retry())
	due(d.toNodes.due, len(d.toNodes.uses) > 0)
	due(d.links.Retry())
	due(d.routes.Retry())
	due(d.peering.table.Retry())
	due(d.settings.Retry())
	due(d.locals.Retry())
	due(d.counters.Retry())
	for _, g := range d.generations.all {
		due(g.interfaces.Retry())
		due(g.sources.Retry())
		due(g.sourceNets.Retry())
		due(g.reuse.due())
		due(now.Add(time.Second), g.pending)
	}
	due(d.generations.again, d.generations.renew != "" || len(d.generations.all) == 0)
	due(now.Add(time.Second), d.shared == nil)
	d.scheduleAudits(due)
	due(d.flows.again, d.shared != nil)
	return at
}

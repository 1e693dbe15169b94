package dataplane

import "time"

// schedule has Wake deliver when something is due.
func (d *Driver) schedule() {
	now := d.clock()
	var at time.Time
	due := func(t time.Time, is bool) {
		if is && !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	due(d.links.Retry())
	due(d.routes.Retry())
	due(d.settings.Retry())
	due(d.locals.Retry())
	due(d.counters.Retry())
	for _, g := range d.policies.all {
		due(g.interfaces.Retry())
		due(g.sources.Retry())
		due(g.reuse.due())
		due(now.Add(time.Second), g.unsettled)
	}
	due(d.policies.again, d.policies.renew != "" || len(d.policies.all) == 0)
	due(now.Add(time.Second), d.inSync && (d.gateErr != nil || d.shared == nil))
	due(d.flows.due, d.shared != nil)
	d.scheduleAudits(due)
	due(d.flows.again, d.shared != nil)
	if at.IsZero() {
		return
	}
	d.timer.Reset(max(at.Sub(now), time.Millisecond))
}

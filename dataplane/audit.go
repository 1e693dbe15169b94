package dataplane

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/dataplane/gate"
	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/dataplane/table"
)

// How often state is read back that other programs can change too.
const (
	// readBack is for state of whose changes the kernel tells, and for state that other programs hardly ever change.
	readBack = 90 * time.Second
	// readBackSoon is for hooks, which decide whether packets are judged at all, and for state of whose changes the kernel should
	// tell but could not be asked to.
	readBackSoon = 5 * time.Second
	// readPause is the least time between two readings of one kind of state, however often the kernel tells of changes.
	readPause = time.Second
)

// audit reads one kind of state back from the kernel, because other programs can change it: from time to time, and when the
// kernel tells of a change.
type audit struct {
	name  string
	every time.Duration
	read  func() error // reads it, or marks it so that the pass that follows reads and repairs it

	due   time.Time
	again time.Time // it is not read before then
	asked atomic.Bool
}

// audits has all audits, and counts repairs.
type audits struct {
	list      []*audit
	listeners []listener
	repairs   map[string]uint64 // since the start, by the kind of state

	ofRoutes    *audit
	routes      *routes.Listener
	ofHopRoutes *audit
	hopRoutes   *routes.Listener

	gateChangedBy    atomic.Value // string: who made the last nftables transaction on our table
	firewallsChanged atomic.Bool  // since they were read
	gateDrift        string       // how the gate differed; empty once the repair is told
}

// listener hears of changes from the kernel.
type listener interface{ Close() }

// addAudit registers an audit. Its first reading is one interval from now.
func (d *Driver) addAudit(name string, every time.Duration, read func() error) *audit {
	a := &audit{name: name, every: every, read: read}
	a.due = d.clock().Add(jittered(every))
	d.audits.list = append(d.audits.list, a)
	return a
}

// jittered varies an interval by up to a tenth, so audits that coincide once do not coincide for ever, on one host or on all.
func jittered(interval time.Duration) time.Duration {
	return interval - interval/10 + rand.N(interval/5)
}

// ask has an audit made as soon as readPause allows. Any goroutine may call it.
func (d *Driver) ask(a *audit) {
	a.asked.Store(true)
	d.signal()
}

// next is when an audit is to be made.
func (a *audit) next() time.Time {
	if a.asked.Load() {
		return a.again
	}
	return a.due
}

// makeAudits makes the audits that are due.
func (d *Driver) makeAudits(now time.Time) error {
	d.hearHopRoutes()
	errs := []error{d.hearRoutes()}
	for _, a := range d.audits.list {
		errs = append(errs, a.make(now))
	}
	return errors.Join(errs...)
}

// make makes the audit if it is due.
func (a *audit) make(now time.Time) error {
	if a.next().After(now) {
		return nil
	}
	a.asked.Store(false)
	a.due, a.again = now.Add(jittered(a.every)), now.Add(readPause)
	return a.read()
}

// scheduleAudits tells when the next one is due.
func (d *Driver) scheduleAudits(due func(time.Time, bool)) {
	for _, a := range d.audits.list {
		at := a.next()
		if at.IsZero() {
			at = d.clock()
		}
		due(at, true)
	}
}

// startAudits registers an audit for everything that this Driver programs and other programs can change.
func (d *Driver) startAudits() {
	d.audits.repairs = map[string]uint64{}
	resync := func(t interface{ Resync() }) func() error { return func() error { t.Resync(); return nil } }
	d.audits.ofRoutes = d.addAudit("routes", readBack, resync(d.routes))
	d.audits.ofHopRoutes = d.addAudit("routes by other hosts", readBack, func() error {
		for _, l := range d.byOtherHosts() {
			l.table.Resync()
		}
		return nil
	})
	settings := d.addAudit("settings", readBack, resync(d.settings))
	ofGate := d.addAudit("gate", readBack, d.checkGate)
	d.addAudit("host addresses", readBack, resync(d.locals))
	d.addAudit("peering addresses", readBack, resync(d.peering.table))
	d.addAudit("rule counters", readBack, resync(d.counters))
	d.addAudit("interface policies", readBack, func() error {
		for _, g := range d.generations.all {
			g.interfaces.Resync()
			g.sources.Resync()
			g.sourceNets.Resync()
		}
		return nil
	})
	d.hooks.audit = d.addAudit("hooks", readBackSoon, d.checkHooks)
	d.firewalls.audit = d.addAudit("other firewalls", readBack, d.checkFirewalls)
	d.listen(d.audits.ofRoutes, func() (listener, error) {
		l, err := routes.Listen(d.kernel.Protocols(), nil, d.signal)
		d.audits.routes = l
		return l, err
	})
	d.listen(d.audits.ofHopRoutes, func() (listener, error) {
		var ports []uint32
		for _, l := range d.byOtherHosts() {
			ports = append(ports, l.kernel.Port())
		}
		l, err := routes.Listen([]int{routes.LearnedProtocol, routes.NodeProtocol, routes.PeerProtocol}, ports, d.signal)
		d.audits.hopRoutes = l
		return l, err
	})
	d.listen(settings, func() (listener, error) {
		return interfaces.ListenSettings(func() { d.ask(settings) })
	})
	d.listen(ofGate, func() (listener, error) {
		return gate.Listen(func(c gate.Changed) {
			if c.Ours || !c.Others {
				d.audits.gateChangedBy.Store(c.By)
				d.ask(ofGate)
			}
			if c.Others || !c.Ours {
				d.audits.firewallsChanged.Store(true)
				d.ask(d.firewalls.audit)
			}
		})
	})
}

// listen asks the kernel to tell of changes. If it cannot, the audit is made more often.
func (d *Driver) listen(a *audit, listen func() (listener, error)) {
	l, err := listen()
	if err != nil {
		a.every, a.due = readBackSoon, d.clock().Add(readBackSoon)
		d.Log.WithError(err).WithField("audit", a.name).Warn("the kernel does not report changes by other programs; felix looks for them every few seconds")
		return
	}
	d.audits.listeners = append(d.audits.listeners, l)
}

func (a *audits) close() {
	for _, l := range a.listeners {
		l.Close()
	}
	a.listeners, a.routes, a.hopRoutes = nil, nil, nil
}

// repaired logs and counts entries that other programs had changed and that are as wanted again.
func (d *Driver) repaired(what string, n int, changes string) {
	if n == 0 {
		return
	}
	d.audits.repairs[what] += uint64(n)
	d.Log.WithFields(logrus.Fields{"entries": n, "changes": changes}).
		Warnf("%s: another program had changed entries of felix; they are repaired. Find that program and stop it", what)
}

// tellRepairs logs and counts the repairs of this pass.
func (d *Driver) tellRepairs() {
	tell := func(what string, repairs []table.Repair) { d.repaired(what, len(repairs), someOf(repairs)) }
	tell("routes", d.routes.Repairs())
	for _, l := range d.byOtherHosts() {
		tell(l.names, l.table.Repairs())
	}
	tell("settings", d.settings.Repairs())
	tell("host addresses", d.locals.Repairs())
	tell("peering addresses", d.peering.table.Repairs())
	tell("rule counters", d.counters.Repairs())
	for _, g := range d.generations.all {
		tell("interface policies", g.interfaces.Repairs())
		tell("source addresses", g.sources.Repairs())
		tell("source networks", g.sourceNets.Repairs())
	}
	if d.audits.gateDrift != "" && d.gate.InForce() != nil && d.gateErr == nil {
		d.repaired("gate", 1, d.audits.gateDrift)
		d.audits.gateDrift = ""
	}
}

// someOf names the first five repairs.
func someOf(repairs []table.Repair) string {
	const few = 5
	var texts []string
	for _, r := range repairs {
		texts = append(texts, r.String())
	}
	slices.Sort(texts)
	if len(texts) > few {
		texts = append(texts[:few], "...")
	}
	return strings.Join(texts, ", ")
}

// checkGate compares the gate's table with the one that was made. If it differs, the keepGate that follows makes it anew.
func (d *Driver) checkGate() error {
	difference, err := d.gate.Check()
	if err != nil || difference == "" {
		return err
	}
	if by, _ := d.audits.gateChangedBy.Load().(string); by != "" {
		difference += ", changed by " + by
	}
	d.audits.gateDrift = difference
	return nil
}

// hearHopRoutes notes the routes by other hosts that somebody else has removed, so this pass writes them again. A route that the kernel
// removed with an interface is no repair. Other changes are read back.
func (d *Driver) hearHopRoutes() {
	if d.audits.hopRoutes == nil {
		return
	}
	heard, all := d.audits.hopRoutes.Take()
	suspect := !all
	for _, h := range heard {
		l := &d.learned
		switch h.Protocol {
		case routes.NodeProtocol:
			l = &d.toNodes
		case routes.PeerProtocol:
			l = &d.toPeers.hopRoutes
		}
		_, wanted := l.table.Wants(h.Prefix)
		switch {
		case !h.Gone || !wanted:
			suspect = true
		case h.ByKernel:
			l.table.Rewrite(h.Prefix)
		default:
			l.kernel.Forget(h.Prefix)
			l.table.Lost(h.Prefix)
		}
	}
	if suspect {
		d.ask(d.audits.ofHopRoutes)
	}
}

// hearRoutes asks for the audit of routes when the kernel tells of a change that is not our own last one.
func (d *Driver) hearRoutes() error {
	if d.audits.routes == nil {
		return nil
	}
	heard, all := d.audits.routes.Take()
	suspect := !all
	for _, h := range heard {
		_, held := d.routes.Holds(h.Prefix)
		suspect = suspect || held == h.Gone
	}
	if suspect {
		d.ask(d.audits.ofRoutes)
	}
	return d.audits.routes.Own(d.kernel.Protocols())
}

package dataplane

import (
	"errors"
	"maps"
	"time"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/dataplane/gate"
	"github.com/margay-project/margay/dataplane/interfaces"
)

// pass brings the kernel closer to the wanted state. Its order keeps every moment safe:
//
//  1. names of workload interfaces into the gate: closed until ready;
//  2. policy into the tables of every generation; another generation, when one is needed, built and verified;
//  3. sources and entries of interfaces: the commit of a policy change for an endpoint;
//  4. programs onto interfaces that have an entry, or swapped, before all others there; then those interfaces into the
//     gate's ready set;
//  5. programs off interfaces without policy, and only then their entries;
//  6. the epoch, after the last write that connections were approved by;
//  7. routes, addresses where workloads peer, settings, counters; then numbers and generations that nothing uses any more are freed.
//
// A step that fails stops only the steps that depend on it.
func (d *Driver) pass(now time.Time) error {
	d.observeUplinks(now)
	d.replan()
	if !d.inSync || !d.state.Ready {
		return errors.Join(d.closeEarly(), d.keepInForce(now))
	}
	if d.resumed != nil {
		d.resumed = nil // from here on, the State names what is protected
		d.protectAnew()
	}
	errs := []error{d.open(), d.rememberSettings()}
	if d.shared == nil {
		return errors.Join(append(errs, d.keepGate())...)
	}
	errs = append(errs, d.makeAudits(now), d.keepGate())
	d.applySettings()
	errs = append(errs, d.resizeFlows(now), d.updateGenerations(), d.build(now))
	for _, g := range d.generations.all {
		d.planInterfaces(g)
		errs = append(errs, g.sources.Fill(now), g.sourceNets.Fill(now), g.interfaces.Fill(now))
	}
	errs = append(errs, d.locals.Fill(now), d.attach(now), d.keepHooks(now), d.keepGate(), d.detach(now), d.locals.Sweep(now))
	for _, g := range d.generations.all {
		d.dropEntries(g)
		errs = append(errs, g.interfaces.Sweep(now), g.sources.Sweep(now), g.sourceNets.Sweep(now))
		g.confirm(d.plan.names, now)
	}
	d.advance()
	errs = append(errs, d.routes.Reconcile(now, true), d.keepPeering(now))
	d.tellArrivals(now)
	d.keepGuests(now)
	d.followGateways()
	errs = append(errs, d.keepRoutesToPeers(now), d.keepHopRoutes(&d.toNodes, now), d.keepLearned(now), d.settings.Reconcile(now, true))
	d.planCounters()
	errs = append(errs, d.counters.Reconcile(now, true), d.tidy(now))
	d.tellRepairs()
	return errors.Join(errs...)
}

// keepInForce is the pass while the datastore is locked: policy stays as it is, hooks are repaired, expired connections make
// room for others, routes to BGP peers are kept, and routes that they announce come and go.
func (d *Driver) keepInForce(now time.Time) error {
	if d.shared == nil && d.resumed == nil {
		return nil
	}
	if d.resumed != nil {
		d.followGateways()
	}
	err := errors.Join(d.keepRoutesToPeers(now), d.keepLearned(now))
	if d.shared == nil {
		return err
	}
	d.sweepFlows(now)
	return errors.Join(d.hooks.audit.make(now), d.keepHooks(now), err)
}

// closeEarly is the pass before the input is complete. A host without a gate gets one, so interfaces with a workload's name
// are closed. The gate of a former process stays as it is unless another program has emptied it.
func (d *Driver) closeEarly() error {
	sound, err := gate.Sound(d.Mark)
	if err != nil || sound {
		d.gateErr = err
		return err
	}
	if len(d.state.Config.InterfacePrefixes) == 0 {
		return nil
	}
	return d.keepGate()
}

func (d *Driver) keepGate() error {
	if d.gateErr == nil && !d.gatePending && d.gate.InForce() != nil {
		return nil
	}
	err := d.step("gate")
	if err == nil {
		err = d.applyGate(d.planGate())
	}
	d.gatePending = err != nil
	d.gateErr = err
	return err
}

// applyGate brings the gate's rules into force, without those for ports of bridges if the kernel has no such tables.
func (d *Driver) applyGate(rules gate.Rules) error {
	err := d.gate.Apply(rules)
	if err == nil || !rules.Ports || !gate.IsUnsupported(err) {
		return err
	}
	rules.Ports = false
	if d.gate.Apply(rules) != nil {
		return err
	}
	d.portsErr = err
	return nil
}

// open opens the tables that all generations share. Tables that do not exist yet get the configured size.
func (d *Driver) open() error {
	if d.shared != nil {
		return nil
	}
	if err := d.step("open shared state"); err != nil {
		return err
	}
	if err := d.inherit(); err != nil {
		return err
	}
	sizes := bpf.DefaultSharedSizes()
	if n := d.state.Config.FlowTableSize; n > 0 {
		sizes = bpf.SharedSizesFor(uint32(n))
	}
	shared, err := bpf.OpenShared(d.PinDir, sizes)
	d.shared = shared
	if err != nil {
		return err
	}
	return d.guests.read(shared, d.Log)
}

// inherit takes over the connections of a former agent that pinned elsewhere. If it cannot, their next packets are judged as if
// nobody had seen them open.
func (d *Driver) inherit() error {
	pinned, err := bpf.Attached(d.PinDir)
	if err != nil {
		return err
	}
	for _, live := range pinned {
		if live {
			return nil
		}
	}
	inherited, err := d.hooks.Inherit(d.PinDir, d.indexes())
	if err != nil {
		d.Log.WithError(err).Warn("connections that were open are judged anew")
	} else if inherited {
		d.Log.Info("programs of a former felix that pinned elsewhere still run; their connections are kept")
	}
	return nil
}

// attach puts the newest generation onto every interface whose entry is complete.
func (d *Driver) attach(now time.Time) error {
	newest := d.generations.newest()
	if newest == nil {
		return nil
	}
	for index, a := range d.plan.assigned {
		if a.Role == interfaces.None {
			continue
		}
		if entry, wanted := newest.interfaces.Wants(uint32(index)); wanted && entry.Programmed {
			d.links.Want(index, running{newest, a.Link.Life})
		}
	}
	err := d.links.Fill(now)
	d.noteEnforced()
	return err
}

// detach takes programs off interfaces that have gone or that no policy concerns any more.
func (d *Driver) detach(now time.Time) error {
	if d.generations.newest() == nil {
		return nil // the programs of a former process stay
	}
	for index := range d.links.Wanted() {
		if a, there := d.plan.assigned[index]; !there || a.Role == interfaces.None {
			d.links.Unwant(index)
		}
	}
	d.keepUnready()
	err := d.links.Sweep(now)
	d.noteEnforced()
	return err
}

// keepUnready protects interfaces that a former process enforced and that have no entry of ours yet: their links stay.
func (d *Driver) keepUnready() {
	for index, held := range d.links.Held() {
		if a, there := d.plan.assigned[index]; there && a.Role != interfaces.None {
			if _, wanted := d.links.Wants(index); !wanted {
				d.links.Want(index, held)
			}
		}
	}
}

func (d *Driver) noteEnforced() {
	enforced := map[int]bool{}
	for index := range d.links.Held() {
		if d.plan.assigned[index].Role == interfaces.Workload {
			enforced[index] = true
		}
	}
	if !maps.Equal(enforced, d.enforced) {
		d.enforced, d.gatePending = enforced, true
		maps.Copy(d.wereEnforced, enforced)
	}
	if d.unmarked && !d.runsFormer() {
		d.unmarked, d.gatePending = false, true
	}
}

// runsFormer says whether an interface still runs the program of a former process.
func (d *Driver) runsFormer() bool {
	for _, r := range d.links.Held() {
		if r.generation == nil {
			return true
		}
	}
	return false
}

// advance starts a new epoch if an entry by which connections were approved has changed. Their next packets are judged again.
func (d *Driver) advance() {
	if d.epochPending {
		d.epochPending = false
		d.shared.AdvanceEpoch()
	}
}

// tidy frees generations and numbers that nothing uses any more, and looks after the connection table.
func (d *Driver) tidy(now time.Time) error {
	errs := []error{d.retire()}
	for _, g := range d.generations.all {
		errs = append(errs, g.reclaim(now))
	}
	d.sweepFlows(now)
	return errors.Join(errs...)
}

package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/firewall"
	"github.com/margay-project/margay/dataplane/gate"
	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/dataplane/table"
)

// Options are what the Driver takes. The zero value of a field is its default.
type Options struct {
	Log *logrus.Entry
	// PinDir is a directory for pinned links and connections: a bpf file system is mounted there unless it is one.
	PinDir string // default /run/margay/bpf
	// Mark are the bits that are set on what a workload was allowed to send; the gate asks for them.
	Mark uint32 // default 0x01000000
	// HostMark are the bits that the gate sets on what this host sends without a socket, and takes off what it forwards
	// over IPv6: the programs take it for a proof of origin.
	HostMark uint32 // default 0x02000000
	// ToHostMark are the bits that are set on what a workload was allowed to send to this host. While workloads may not reach it,
	// the gate asks for them where packets arrive, after address translation.
	ToHostMark uint32 // default 0x04000000

	clock func() time.Time
	// step is asked before every write to the kernel; a test answers with an error instead of it.
	step func(what string) error
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = logrus.NewEntry(logrus.StandardLogger())
	}
	if o.PinDir == "" {
		o.PinDir = "/run/margay/bpf"
	}
	if o.Mark == 0 {
		o.Mark = 0x01000000
	}
	if o.HostMark == 0 {
		o.HostMark = 0x02000000
	}
	if o.ToHostMark == 0 {
		o.ToHostMark = 0x04000000
	}
	if o.clock == nil {
		o.clock = time.Now
	}
	if o.step == nil {
		o.step = func(string) error { return nil }
	}
	return o
}

// Driver keeps one network namespace: that of the thread that calls New and Apply, which must be the same. All methods but
// Follow are called by one goroutine, see docs/decisions/0004-one-loop.md.
type Driver struct {
	Options
	claim   *claim
	wake    chan struct{}
	timer   *time.Timer
	watcher *interfaces.Watcher
	kernel  *routes.Kernel

	mu           sync.Mutex // Follow reads names and shared on another goroutine; Apply and Close change them
	state        *calc.State
	inSync       bool
	plan         plan
	shared       *bpf.Shared
	generations  generations
	links        *table.Table[int, running]
	enforced     map[int]bool    // interfaces of workloads on which a program runs
	recalled     map[uint32]bool // interfaces of any kind on which a program ran when this process started
	unmarked     bool            // a former program may run that does not mark what workloads send to this host
	uplinks      uplinkCare
	idleSince    map[calc.EndpointID]time.Time // endpoints that govern no interface
	routes       *table.Table[netip.Prefix, routes.Route]
	settings     *table.Table[interfaces.Sysctl, string]
	proc         interfaces.Proc
	former       *bpf.FormerSettings // opened with shared
	locals       *table.Table[netip.Addr, uint8]
	counters     *table.Table[uint64, struct{}]
	gate         gate.Gate
	gateErr      error
	gatePending  bool // its rules may have to change
	rules        ruleNames
	flows        flowCare
	audits       audits
	firewalls    firewalls
	hooks        hookCare
	epochPending bool // something that connections were approved by has changed since the epoch advanced
	lastErr      error
}

// New prepares a Driver. It changes nothing in the kernel; what a former process left goes on enforcing. There is one Driver
// for each network namespace and each pin directory: a second one gets an error.
func New(options Options) (*Driver, error) {
	o := options.withDefaults()
	claim, err := makeClaim(o.PinDir)
	if err != nil {
		return nil, err
	}
	if claim.warning != nil {
		o.Log.Warn(claim.warning)
	}
	if path := claim.pins.Path(); path != o.PinDir {
		o.Log.WithField("directory", o.PinDir).Info("felix has a mount namespace of its own; it pins to the directory that process 1 sees, so that policy outlives it")
		o.PinDir = path
	}
	d := &Driver{Options: o, claim: claim, wake: make(chan struct{}, 1), state: &calc.State{}}
	d.generations.attached = map[int]*bpf.Attachment{}
	d.hooks = hookCare{Hooks: bpf.NewHooks(), failed: map[int]error{}, former: map[int]bool{}, rivals: map[hook]*rival{}, told: map[string]bool{}}
	d.timer = time.AfterFunc(time.Hour, d.signal)
	d.timer.Stop()
	if d.kernel, err = routes.NewKernel(); err != nil {
		return nil, errors.Join(err, claim.close())
	}
	if d.watcher, err = interfaces.Watch(o.Log, d.signal); err != nil {
		d.kernel.Close()
		return nil, errors.Join(err, claim.close())
	}
	d.makeTables()
	d.startAudits()
	if err := d.recall(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Driver) makeTables() {
	d.links = table.New("interfaces", linkTarget{d}, func(a, b running) bool { return a == b })
	d.routes = table.New("routes", stepped[netip.Prefix, routes.Route]{d, "route", d.kernel}, func(a, b routes.Route) bool { return a == b })
	d.settings = table.New("settings", stepped[interfaces.Sysctl, string]{d, "setting", &d.proc}, func(a, b string) bool { return a == b })
	d.locals = table.New("host addresses", stepped[netip.Addr, uint8]{d, "host address", localTarget{d}}, func(a, b uint8) bool { return a == b })
	d.counters = table.New("rule counters", stepped[uint64, struct{}]{d, "rule counter", counterTarget{d}}, func(a, b struct{}) bool { return true })
}

// recall finds out which interfaces of workloads a former process left enforced, so that they stay closed whatever
// their names are, and open to what its policy allows even when the gate is gone: the tables of their programs tell, and
// the gate tells of a program whose tables are of another time.
func (d *Driver) recall() error {
	indexes := d.indexes()
	running, err := d.hooks.Running(indexes)
	if err != nil {
		return err
	}
	workloads, err := d.hooks.RunningWorkloads(indexes)
	if err != nil {
		d.Log.WithError(err).Debug("tables of a former process cannot be read")
	}
	ready, err := gate.Ready()
	if err != nil {
		d.Log.WithError(err).Debug("the gate of a former process cannot be read")
	}
	d.enforced, d.recalled = map[int]bool{}, running
	for index := range workloads {
		d.enforced[int(index)] = true
	}
	for _, index := range ready {
		if running[uint32(index)] {
			d.enforced[index] = true
		}
	}
	asked, err := gate.AsksToHost()
	if err != nil {
		d.Log.WithError(err).Debug("what the gate of a former process asks for cannot be read")
	}
	d.unmarked = len(d.enforced) > 0 && !asked
	return nil
}

// indexes are those of all interfaces.
func (d *Driver) indexes() (indexes []uint32) {
	for index := range d.watcher.Links() {
		indexes = append(indexes, uint32(index))
	}
	return indexes
}

// Wake delivers when Apply has something to do without new input: an interface changed, or it is time to try again
// what failed. Apply with an empty Delta then.
func (d *Driver) Wake() <-chan struct{} { return d.wake }

func (d *Driver) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// InSync says that the Deltas so far are the whole of the input. From the next Apply on, the kernel is brought to it.
func (d *Driver) InSync() {
	d.inSync = true
	d.signal()
}

// Apply takes over a change and makes one pass. The error joins everything that could not be done; it is tried again
// when Wake delivers.
func (d *Driver) Apply(delta calc.Delta) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fold(delta)
	d.rules.note(delta)
	if len(delta.Endpoints)+len(delta.EndpointsGone)+len(delta.Routes)+len(delta.RoutesGone)+
		len(delta.Pools)+len(delta.PoolsGone) > 0 || delta.Config != nil {
		d.plan.pending = true
	}
	err := d.pass(d.clock())
	d.lastErr = err
	d.schedule()
	return err
}

// Facts are what the calculation must know of the host.
func (d *Driver) Facts() calc.Facts {
	d.observeUplinks(d.clock())
	links, uplinks := d.watcher.Links(), d.uplinks.memory.Reasons()
	for _, link := range links {
		for _, name := range link.AltNames {
			if why := uplinks[link.Name]; why != "" {
				uplinks[name] = why
			}
		}
	}
	return calc.Facts{Addresses: links.Addresses(), Uplinks: uplinks}
}

// Close ends the Driver. Everything that is in force stays in force.
func (d *Driver) Close() error {
	d.watcher.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.audits.close()
	d.timer.Stop()
	d.flows.wait()
	d.kernel.Close()
	err := d.generations.close()
	if d.former != nil {
		err = errors.Join(err, d.former.Close())
		d.former, d.proc.Former = nil, nil
	}
	if d.shared != nil {
		err = errors.Join(err, d.shared.Close())
		d.shared, d.inSync = nil, false // Status and its like may still be asked
	}
	return errors.Join(err, d.claim.close())
}

// Uninstall removes every trace of a Driver with these options, also the pin directory.
func Uninstall(options Options) error {
	d, err := New(options)
	if err != nil {
		return err
	}
	if err := errors.Join(d.remove(), d.claim.pins.Remove(), d.Close()); err != nil {
		return fmt.Errorf("not everything is removed, try again: %w", err)
	}
	return nil
}

// Uninstall ends the Driver and removes every trace of it: programs, connections, routes and the gate. What it set under
// /proc/sys is as it was before. Every interface is open then.
func (d *Driver) Uninstall() error {
	err := d.remove()
	return errors.Join(err, d.Close())
}

func (d *Driver) remove() error {
	pinned, err := bpf.Attached(d.PinDir)
	for index := range pinned {
		err = errors.Join(err, bpf.Detach(d.PinDir, index))
	}
	elsewhere := 0
	for _, index := range d.indexes() { // what former agents pinned elsewhere
		n, e := d.hooks.TakeOff(index)
		if err = errors.Join(err, e); !pinned[index] { // the kernel may still have at the hook what was just unpinned
			elsewhere += n
		}
	}
	d.routes.WantExactly(nil)
	err = errors.Join(err, d.routes.Reconcile(d.clock(), true))
	err = errors.Join(err, firewall.Remove(d.Mark))
	if there, _ := gate.Exists(); there { // a kernel that cannot say has none
		err = errors.Join(err, gate.Remove())
	}
	err = errors.Join(err, d.restoreSettings())
	if elsewhere > 0 {
		d.Log.WithField("programs", elsewhere).Warn("programs of a felix with another pin directory are taken off; only that directory remembers " +
			"what it changed under /proc/sys: run felix --uninstall with that --pin-dir too, or look whether forwarding shall stay on")
	}
	if d.shared == nil {
		shared, e := bpf.OpenShared(d.PinDir, bpf.DefaultSharedSizes())
		d.shared, err = shared, errors.Join(err, e)
	}
	if d.shared != nil {
		err = errors.Join(err, d.shared.Unpin())
	}
	return err
}

// rememberSettings opens what is remembered of settings before they were changed.
func (d *Driver) rememberSettings() error {
	if d.former != nil {
		return nil
	}
	former, err := bpf.OpenFormerSettings(d.PinDir)
	if err != nil {
		return err
	}
	d.former, d.proc.Former = former, former
	return nil
}

// restoreSettings puts back what was set under /proc/sys. Settings that cannot be put back stay remembered.
func (d *Driver) restoreSettings() error {
	if err := d.rememberSettings(); err != nil {
		return err
	}
	restored, err := d.proc.Restore()
	if len(restored) > 0 {
		d.Log.WithField("settings", strings.Join(restored, " ")).Info("settings under /proc/sys are put back to what they were before felix")
	} else if err == nil {
		d.Log.WithField("directory", d.PinDir).Info("no setting under /proc/sys is put back: the pin directory remembers none that felix changed and nobody has changed since")
	}
	if err != nil {
		return err
	}
	return d.former.Unpin()
}

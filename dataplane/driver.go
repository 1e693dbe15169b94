package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/dhcp"
	"github.com/margay-project/margay/dataplane/firewall"
	"github.com/margay-project/margay/dataplane/gate"
	"github.com/margay-project/margay/dataplane/interfaces"
	"github.com/margay-project/margay/dataplane/routes"
	"github.com/margay-project/margay/dataplane/table"
)

// Options configure a Driver. The zero value of a field stands for its default.
type Options struct {
	Log *logrus.Entry
	// PinDir is the directory for pinned links and connections. New mounts a bpf file system there if it is on none.
	PinDir string // default /run/margay/bpf
	// Mark has the bits that the programs set on packets that a workload was allowed to send. The gate drops packets without them.
	Mark uint32 // default 0x01000000
	// HostMark has the bits that the gate sets on packets that this host sends without a socket. The programs take them as proof
	// that a packet began here, so the gate takes them off packets that the host forwards over IPv6.
	HostMark uint32 // default 0x02000000
	// ToHostMark has the bits that the programs set on packets that a workload was allowed to send to this host. While workloads
	// may not reach the host, the gate drops packets without them at the hook input, after address translation.
	ToHostMark uint32 // default 0x04000000
	// RouteProtocols are the protocol numbers that the routes of former processes to workloads and blocks had, as deviceRouteProtocol
	// gave them. Other programs may use them now: only routes that look like felix's are removed.
	RouteProtocols []int

	clock func() time.Time
	// step is called before every write to the kernel. A test returns an error instead of the write.
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

// Driver programs one network namespace: that of the thread that calls New and Apply. Both must be called on the same thread.
// One goroutine calls all methods but Follow, see docs/decisions/0004-one-loop.md.
type Driver struct {
	Options
	claim   *claim
	wake    chan struct{}
	timer   *time.Timer
	watcher *interfaces.Watcher
	kernel  *routes.Kernel

	mu           sync.Mutex // guards plan, rules and shared, which Follow reads on a goroutine of its own
	state        *calc.State
	inSync       bool
	plan         plan
	shared       *bpf.Shared
	generations  generations
	links        *table.Table[int, running]
	enforced     map[int]bool    // interfaces of workloads on which a program runs
	wereEnforced map[int]bool    // those on which one ran since this process started
	recalled     map[uint32]bool // interfaces of any kind on which a program ran when this process started
	unmarked     bool            // a former program may run that does not set ToHostMark
	uplinks      uplinkCare
	idleSince    map[calc.EndpointID]time.Time // endpoints that govern no interface
	routes       *table.Table[netip.Prefix, routes.Route]
	learned      hopRoutes // of BGP peers
	arrivals     arrivals
	advertising  advertising
	guests       guests
	toNodes      hopRoutes  // to other nodes, derived from their blocks
	toPeers      peerRoutes // to BGP peers, by their gateways
	peering      workloadPeering
	settings     *table.Table[interfaces.Sysctl, string]
	proc         interfaces.Proc
	former       *bpf.FormerSettings // opened with shared
	resumed      *resumed            // nil: Resume was not called, or the input is complete
	locals       *table.Table[netip.Addr, uint8]
	counters     *table.Table[uint64, struct{}]
	gate         gate.Gate
	portsErr     error // why the kernel has no gate for ports of bridges
	gateErr      error
	gatePending  bool // its rules may have changed
	rules        ruleNames
	flows        flowCare
	audits       audits
	firewalls    firewalls
	hooks        hookCare
	epochPending bool // an entry by which connections were approved has changed since the epoch advanced
	lastErr      error
}

// New prepares a Driver. It changes no policy in the kernel: the programs of a former process go on enforcing. A network
// namespace has one Driver, and so has a pin directory: New fails for a second one.
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
	if d.kernel, err = routes.NewKernel(func(index int) bool { return d.wereEnforced[index] }); err != nil {
		return nil, errors.Join(err, claim.close())
	}
	for _, protocol := range o.RouteProtocols {
		d.kernel.Recall(routes.Protocol(protocol))
	}
	if d.watcher, err = interfaces.Watch(o.Log, d.signal); err != nil {
		d.kernel.Close()
		return nil, errors.Join(err, claim.close())
	}
	if err := d.openHopRoutes(); err != nil {
		d.watcher.Close()
		d.kernel.Close()
		return nil, errors.Join(err, claim.close())
	}
	if d.guests.server, err = dhcp.New(o.Log); err != nil {
		return nil, errors.Join(err, d.Close())
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
	d.routes = table.New("routes", stepped[netip.Prefix, routes.Route]{d, "route", arriving{d.kernel, d}}, func(a, b routes.Route) bool { return a == b })
	d.settings = table.New("settings", stepped[interfaces.Sysctl, string]{d, "setting", &d.proc}, func(a, b string) bool { return a == b })
	d.locals = table.New("host addresses", stepped[netip.Addr, uint8]{d, "host address", localTarget{d}}, func(a, b uint8) bool { return a == b })
	d.makePeeringTable()
	d.counters = table.New("rule counters", stepped[uint64, struct{}]{d, "rule counter", counterTarget{d}}, func(a, b struct{}) bool { return true })
}

// recall finds the interfaces of workloads on which a former process left policy in force. They stay under policy whatever
// their names are, also when the gate is gone. The tables of the attached programs name them. The gate names those whose
// programs have tables of another version.
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
	d.wereEnforced = maps.Clone(d.enforced)
	asked, err := gate.AsksToHost()
	if err != nil {
		d.Log.WithError(err).Debug("the marks that the gate of a former process asks for cannot be read")
	}
	d.unmarked = len(d.enforced) > 0 && !asked
	return nil
}

// indexes returns the index of every interface.
func (d *Driver) indexes() (indexes []uint32) {
	for index := range d.watcher.Links() {
		indexes = append(indexes, uint32(index))
	}
	return indexes
}

// Wake delivers when there is work without new input: an interface changed, or a failed write is due again. The caller then
// calls Apply with an empty Delta.
func (d *Driver) Wake() <-chan struct{} { return d.wake }

func (d *Driver) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// InSync says that the Deltas so far are the complete input. The next Apply is the first that removes and replaces.
func (d *Driver) InSync() {
	d.inSync = true
	d.signal()
}

// Apply adds a change to the State and makes one pass. The error joins the errors of all steps. Failed steps are tried again
// with the Apply after Wake delivers.
func (d *Driver) Apply(delta calc.Delta) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noteRoutesToNodes(delta)
	d.noteRoutesToPeers(delta)
	local := d.changesLocalRoutes(delta) || d.changesPeering(delta)
	d.fold(delta)
	if delta.BGP != nil {
		d.protectAnew()
	}
	d.rules.note(delta)
	if local || len(delta.Endpoints)+len(delta.EndpointsGone)+len(delta.Pools)+len(delta.PoolsGone) > 0 || delta.Config != nil {
		d.plan.pending = true
	}
	err := d.pass(d.clock())
	d.lastErr = err
	d.schedule()
	return err
}

// changesLocalRoutes says whether a Delta, which is not in the State yet, changes routes that are not by other hosts.
func (d *Driver) changesLocalRoutes(delta calc.Delta) bool {
	for prefix, r := range delta.Routes {
		before, there := d.state.Routes[prefix]
		if r.Kind.IsLocal() || there && before.Kind.IsLocal() {
			return true
		}
	}
	return slices.ContainsFunc(delta.RoutesGone, func(p netip.Prefix) bool {
		before, there := d.state.Routes[p]
		return there && before.Kind.IsLocal()
	})
}

// Facts returns the facts about the host that the calculation needs.
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

// Close ends the Driver. Policy stays in force: programs, tables, routes and the gate stay in the kernel.
func (d *Driver) Close() error {
	d.watcher.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.audits.close()
	d.timer.Stop()
	d.flows.wait()
	d.kernel.Close()
	for _, l := range d.byOtherHosts() {
		l.kernel.Close()
	}
	err := errors.Join(d.guests.close(), d.generations.close())
	if d.former != nil {
		err = errors.Join(err, d.former.Close())
		d.former, d.proc.Former = nil, nil
	}
	if d.shared != nil {
		err = errors.Join(err, d.shared.Close())
		d.shared, d.inSync = nil, false // Status and Dump may still be called
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

// Uninstall ends the Driver and removes every trace of it: programs, connections, routes and the gate. Settings under
// /proc/sys get back the values that they had before. Every interface is open then.
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
	for _, index := range d.indexes() { // programs that former agents pinned elsewhere
		n, e := d.hooks.TakeOff(index)
		if err = errors.Join(err, e); !pinned[index] { // the hook may still list the program that was just unpinned
			elsewhere += n
		}
	}
	d.routes.WantExactly(nil)
	d.peering.table.WantExactly(nil)
	err = errors.Join(err, d.routes.Reconcile(d.clock(), true), d.keepPeering(d.clock()))
	for _, l := range d.byOtherHosts() {
		l.table.WantExactly(nil)
		err = errors.Join(err, l.table.Reconcile(d.clock(), true))
	}
	err = errors.Join(err, firewall.Remove(d.Mark))
	if there, _ := gate.Exists(); there { // a kernel without nftables has no gate
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

// rememberSettings opens the table of the values that settings had before felix changed them.
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

// restoreSettings puts settings under /proc/sys back to their former values. The values of settings that cannot be put back
// stay in the table.
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

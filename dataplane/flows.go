package dataplane

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/bpf/layout"
)

// flowCare looks after the table of connections. The goroutines of running write the fields below mu; the loop reads them and
// owns the rest.
type flowCare struct {
	mu      sync.Mutex
	swept   *bpf.Swept // result of the last sweep; nil: there was none yet
	err     error
	drained *bpf.Drained // result of the last run that moves connections; nil: it has not ended
	running sync.WaitGroup

	due     time.Time // of the next sweep
	again   time.Time // a change of size goes on then
	waits   string    // not empty: why the configured size is not in force
	moving  bool      // a run that moves connections has begun, and its result has not been read
	flipped bool      // connections have been kept in the new tables for at least drainDelay
}

// careInterval is the time between two sweeps, which free expired connections.
const careInterval = 10 * time.Second

// drainDelay is far longer than a program that began before a change can still run: programs run for microseconds.
const drainDelay = time.Second

func (f *flowCare) wait() { f.running.Wait() }

// counts returns the numbers of connections after the last sweep. It returns false if there was none or it failed.
func (f *flowCare) counts() (bpf.Swept, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.swept == nil || f.err != nil {
		return bpf.Swept{}, false
	}
	return *f.swept, true
}

// sweepFlows starts a sweep when one is due: a run of a BPF program, on another goroutine, frees expired connections.
func (d *Driver) sweepFlows(now time.Time) {
	if now.Before(d.flows.due) {
		return
	}
	d.flows.due = now.Add(careInterval)
	if g := d.generations.newest(); g != nil {
		d.flows.running.Go(func() {
			result, err := g.Sweep()
			d.flows.mu.Lock()
			d.flows.swept, d.flows.err = &result, err
			d.flows.mu.Unlock()
			d.signal() // a change of size may wait for the counts
		})
	}
}

// resizeFlows follows the configured size of the table of connections. It makes a second set of tables beside the first, and
// another generation that knows both. When every interface runs that generation, connections move to the new tables, within
// seconds. A further change of the size waits until they have.
func (d *Driver) resizeFlows(now time.Time) error {
	f := &d.flows
	if f.again.After(now) {
		return nil
	}
	f.again = time.Time{}
	switch d.shared.Resizing() {
	case bpf.FlowsOfOneSize:
		return d.beginResize(now)
	case bpf.FlowsSwapping:
		if d.oneGeneration() {
			d.shared.DrainFlows()
			f.flipped, f.again = true, now.Add(drainDelay)
		}
	case bpf.FlowsDraining:
		return d.drain(now)
	}
	return nil
}

// beginResize makes tables of the configured size, unless the open connections have no room in them: none may be dropped.
func (d *Driver) beginResize(now time.Time) error {
	f, s := &d.flows, d.shared
	want, is := uint32(max(d.state.Config.FlowTableSize, 0)), s.FlowSizes().Flows
	f.waits = ""
	if want == 0 || want == is {
		return nil
	}
	if want < is {
		counts, known := f.counts()
		if !known {
			return nil // the first sweep wakes us
		}
		if most := uint64(want) - uint64(want)/8; counts.Proven > most { // an eighth is left for connections that open meanwhile
			f.waits = fmt.Sprintf("bpfMapSizeConntrack %d is not in force: %d connections are open, and the table of %d stays until at most %d are: wait, or set a larger size",
				want, counts.Proven, is, most)
			return nil
		}
	}
	err := d.step("resize flows")
	if err == nil {
		err = s.ResizeFlows(bpf.SharedSizesFor(want))
	}
	if err != nil {
		f.again = now.Add(careInterval)
		return err
	}
	if len(d.generations.all) > 0 {
		d.generations.renew = "the table of connections has another size"
	}
	return nil
}

// drain moves connections to the new tables: a BPF program does it on another goroutine, again until none is left.
func (d *Driver) drain(now time.Time) error {
	f := &d.flows
	if !f.flipped { // a former process may have changed the tables a moment ago
		f.flipped, f.again = true, now.Add(drainDelay)
		return nil
	}
	g := d.generations.newest()
	if g == nil {
		return nil
	}
	if !f.moving {
		f.moving = true
		f.running.Go(func() {
			result, err := g.Drain()
			if err != nil {
				d.Log.WithError(err).Warn("connections cannot be moved to the table of the new size; each moves with its next packet, and felix tries again")
				result.Left = 1
			}
			f.mu.Lock()
			f.drained = &result
			f.mu.Unlock()
			d.signal()
		})
		return nil
	}
	f.mu.Lock()
	result := f.drained
	f.drained = nil
	f.mu.Unlock()
	if result == nil {
		return nil // the run has not ended
	}
	f.moving = false
	if result.Left > 0 {
		f.again = now.Add(careInterval)
		return nil
	}
	f.flipped = false
	d.generations.renew = "the old tables of connections are empty, and their memory is freed"
	return d.shared.DropOldFlows()
}

// oneGeneration says that every interface runs the newest generation, and none is about to be built.
func (d *Driver) oneGeneration() bool {
	if d.generations.renew != "" || len(d.generations.all) != 1 {
		return false
	}
	for _, r := range d.links.Held() {
		if r.generation != d.generations.newest() {
			return false
		}
	}
	return true
}

// applySettings writes the configuration into the memory that programs read.
func (d *Driver) applySettings() {
	c, s := &d.state.Config, d.shared.Settings
	t := &c.Timeouts
	for state, timeout := range map[int]time.Duration{
		layout.FlowTCPOpening: t.TCPSynSent, layout.FlowTCPEstablished: t.TCPEstablished, layout.FlowTCPFins: t.TCPFinsSeen,
		layout.FlowTCPReset: t.TCPResetSeen, layout.FlowUDP: t.UDP, layout.FlowICMP: t.ICMP, layout.FlowGeneric: t.Generic,
	} {
		if timeout > 0 {
			atomic.StoreUint64(&s.Timeout[state], uint64(timeout))
		}
	}
	level := layout.LogRules
	switch c.LogLevel {
	case "info":
		level = layout.LogDrops
	case "debug":
		level = layout.LogVerdicts
	}
	atomic.StoreUint32(&s.LogLevel, uint32(level))
	atomic.StoreUint32(&s.Mark, d.Mark)
	atomic.StoreUint32(&s.ToHostMark, d.ToHostMark)
	hostMark := d.HostMark
	if d.gate.InForce() == nil { // without a gate, forwarded packets could carry the mark: it proves nothing
		hostMark = 0
	}
	atomic.StoreUint32(&s.HostMark, hostMark)
}

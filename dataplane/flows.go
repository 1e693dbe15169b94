package dataplane

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/margay-project/margay/bpf"
)

// flowCare looks after the table of connections.
type flowCare struct {
	mu      sync.Mutex
	last    bpf.Swept
	err     error
	running sync.WaitGroup

	due      time.Time
	draining time.Time // since when connections move to the larger tables; zero: they do not
}

// careInterval is how often connections that have expired are freed.
const careInterval = 10 * time.Second

func (f *flowCare) wait() { f.running.Wait() }

func (f *flowCare) result() (bpf.Swept, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, f.err
}

// care does what is due from time to time: expired connections are freed by a run of the program beside the loop.
func (d *Driver) care(now time.Time) {
	if now.Before(d.flows.due) {
		return
	}
	d.flows.due = now.Add(careInterval)
	if g := d.policies.newest(); g != nil {
		d.flows.running.Go(func() {
			result, err := g.Sweep()
			d.flows.mu.Lock()
			d.flows.last, d.flows.err = result, err
			d.flows.mu.Unlock()
		})
	}
}

// growFlows follows the configured size of the table of connections: a second pair of tables beside the first, another
// generation that knows both, and when every interface runs it connections move.
func (d *Driver) growFlows(now time.Time) error {
	s, f := d.shared, &d.flows
	want := uint32(max(d.state.Config.FlowTableSize, 0))
	switch {
	case !s.Growing() && want != 0 && want != s.FlowSizes().Flows:
		sizes := bpf.SharedSizes{Flows: want, NewFlows: s.FlowSizes().NewFlows}
		if err := errors.Join(d.step("grow flows"), s.GrowFlows(sizes)); err != nil {
			return err
		}
		if len(d.policies.all) > 0 {
			d.policies.renew = "the table of connections has another size"
		}
	case s.Growing() && f.draining.IsZero() && d.oneGeneration():
		s.DrainFlows()
		f.draining = now
		d.signal()
	case s.Growing() && !f.draining.IsZero() && now.Sub(f.draining) > d.longestTimeout():
		f.draining = time.Time{}
		return s.DropOldFlows()
	}
	return nil
}

// oneGeneration says that every interface runs the newest generation, and none is about to be built.
func (d *Driver) oneGeneration() bool {
	if d.policies.renew != "" || len(d.policies.all) != 1 {
		return false
	}
	for _, r := range d.links.Held() {
		if r.generation != d.policies.newest() {
			return false
		}
	}
	return true
}

func (d *Driver) longestTimeout() time.Duration {
	var longest uint64
	for _, t := range d.shared.Settings.Timeout {
		longest = max(longest, t)
	}
	return time.Duration(longest)
}

// applySettings brings the configuration into the memory that programs read.
func (d *Driver) applySettings() {
	c, s := &d.state.Config, d.shared.Settings
	t := &c.Timeouts
	for state, timeout := range map[int]time.Duration{
		bpf.FlowTCPOpening: t.TCPSynSent, bpf.FlowTCPEstablished: t.TCPEstablished, bpf.FlowTCPFins: t.TCPFinsSeen,
		bpf.FlowTCPReset: t.TCPResetSeen, bpf.FlowUDP: t.UDP, bpf.FlowICMP: t.ICMP, bpf.FlowGeneric: t.Generic,
	} {
		if timeout > 0 {
			atomic.StoreUint64(&s.Timeout[state], uint64(timeout))
		}
	}
	level := bpf.LogRules
	switch c.LogLevel {
	case "info":
		level = bpf.LogDrops
	case "debug":
		level = bpf.LogVerdicts
	}
	atomic.StoreUint32(&s.LogLevel, uint32(level))
	atomic.StoreUint32(&s.Mark, d.Mark)
	hostMark := d.HostMark
	if d.gate.InForce() == nil { // nobody takes it off forwarded packets
		hostMark = 0
	}
	atomic.StoreUint32(&s.HostMark, hostMark)
}

package dataplane

import (
	"time"

	"golang.org/x/sys/unix"
)

// grace tells when no program that ran at some moment can still be running.
type grace struct {
	epoch   uint64
	waiting bool
	since   time.Time
}

// Programs run for microseconds. The kernel is asked for a grace period of its own as well, a second later; waiting
// for it takes tens of milliseconds, so changes in quick succession share one.
const graceDelay = time.Second

func (g *grace) after(epoch uint64) {
	g.epoch, g.waiting, g.since = epoch, true, time.Time{}
}

// passed returns the epoch whose leavings may be used again.
func (g *grace) passed(now time.Time) (uint64, bool) {
	if !g.waiting {
		return 0, false
	}
	if g.since.IsZero() {
		g.since = now
		return 0, false
	}
	if now.Sub(g.since) < graceDelay || !kernelGrace() {
		return 0, false
	}
	g.waiting = false
	return g.epoch, true
}

// due is when passed should be asked; false when nothing waits.
func (g *grace) due(now time.Time) (time.Time, bool) {
	if g.since.IsZero() {
		return now.Add(graceDelay), g.waiting
	}
	return g.since.Add(graceDelay), g.waiting
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h.
const membarrierGlobal = 1

// kernelGrace waits for an RCU grace period: every program that was running has ended. A kernel that cannot do it
// (nohz_full) gives no answer; then numbers are not used again and the next generation starts afresh.
func kernelGrace() bool {
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
	return errno == 0
}

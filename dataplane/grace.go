package dataplane

import (
	"time"

	"golang.org/x/sys/unix"
)

// grace tells when no program that ran at some moment can still be running.
type grace struct {
	epoch uint64
	since time.Time // zero: nothing waits
	next  uint64    // came meanwhile, and waits for its turn
	more  bool

	answer chan bool // from the kernel, once it has been asked
}

// Programs run for microseconds. The kernel is asked for a grace period of its own as well, a second later; waiting
// for it takes tens of milliseconds, so changes in quick succession share one.
const graceDelay = time.Second

func (g *grace) after(epoch uint64, now time.Time) {
	if g.since.IsZero() {
		g.epoch, g.since = epoch, now
		return
	}
	g.next, g.more = epoch, true
}

// passed returns the epoch whose leavings may be used again. The kernel is asked beside the loop; wake is called when
// it has answered.
func (g *grace) passed(now time.Time, wake func()) (uint64, bool) {
	if g.since.IsZero() || now.Sub(g.since) < graceDelay {
		return 0, false
	}
	if g.answer == nil {
		answer := make(chan bool, 1)
		g.answer = answer
		go func() { // ends with the grace period; the channel has room for its answer
			answer <- kernelGrace()
			wake()
		}()
		return 0, false
	}
	select {
	case yes := <-g.answer:
		g.answer = nil
		if !yes {
			g.since = now
			return 0, false
		}
	default:
		return 0, false
	}
	epoch := g.epoch
	g.since = time.Time{}
	if g.more {
		g.more = false
		g.after(g.next, now)
	}
	return epoch, true
}

// due is when passed should be asked; false when nothing waits, or the kernel is at it.
func (g *grace) due() (time.Time, bool) {
	return g.since.Add(graceDelay), !g.since.IsZero() && g.answer == nil
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h.
const membarrierGlobal = 1

// kernelGrace waits for an RCU grace period: every program that was running has ended. A kernel that cannot do it
// (nohz_full) gives no answer; then numbers are not used again and the next generation starts afresh.
func kernelGrace() bool {
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
	return errno == 0
}

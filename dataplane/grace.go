package dataplane

import (
	"time"

	"golang.org/x/sys/unix"
)

// grace tells when all programs that ran at a certain moment have ended.
type grace struct {
	round uint64
	since time.Time // zero: nothing waits
	next  uint64    // the round that came meanwhile and waits for its turn
	more  bool      // next is set

	answer chan bool // delivers when the kernel has answered; nil: it is not asked
}

// graceDelay is the wait before the kernel is asked for a grace period. The answer takes tens of milliseconds, so changes in quick
// succession share one.
const graceDelay = time.Second

// after starts to wait for the programs that run now. The numbers of this round may be used again afterwards.
func (g *grace) after(round uint64, now time.Time) {
	if g.since.IsZero() {
		g.round, g.since = round, now
		return
	}
	g.next, g.more = round, true
}

// passed returns the round whose numbers may be used again. Another goroutine asks the kernel, and calls wake when it has
// answered.
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
	round := g.round
	g.since = time.Time{}
	if g.more {
		g.more = false
		g.after(g.next, now)
	}
	return round, true
}

// due is when to call passed. It returns false if nothing waits, or the kernel has not answered yet.
func (g *grace) due() (time.Time, bool) {
	return g.since.Add(graceDelay), !g.since.IsZero() && g.answer == nil
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h.
const membarrierGlobal = 1

// kernelGrace waits for an RCU grace period: every program that was running has ended. It returns false on a kernel that cannot
// do it (booted with nohz_full). Numbers are then not used again, and the next generation starts afresh.
func kernelGrace() bool {
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
	return errno == 0
}

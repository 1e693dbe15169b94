package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/rpc"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/margay-project/margay/calc"
)

// The pause before a new child. It is doubled, up to the last, when a child ends within pauseReset.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 10 * time.Second
	pauseReset = time.Second
)

// supervise keeps a child running until ctx ends.
func (p *Process) supervise(ctx context.Context) {
	defer close(p.over)
	runtime.LockOSThread() // the kernel ends a child with the thread that started it, see Pdeathsig
	defer runtime.UnlockOSThread()
	for pause, first := time.Duration(0), true; ; first = false {
		began := time.Now()
		err := p.runOnce(ctx, first)
		if ctx.Err() != nil {
			return
		}
		p.crashed(err)
		p.try()
		pause = pauseAfter(time.Since(began), pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// pauseAfter is the pause after a child that has lived for some time. before is the former pause, 0 if there was none.
func pauseAfter(lived, before time.Duration) time.Duration {
	if lived > pauseReset {
		return firstPause
	}
	return min(max(2*before, firstPause), lastPause)
}

// runOnce runs a child until it ends, and returns the reason.
func (p *Process) runOnce(ctx context.Context, first bool) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer ours.Close()
	defer theirs.Close()
	cmd := p.options.Command()
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	theirs.Close() // the connection ends with the child
	kill := func() { _ = cmd.Process.Kill() }
	stop := context.AfterFunc(ctx, kill)
	defer stop()
	work := func() (time.Duration, error) { return workOf(cmd.Process.Pid) }
	c := &connection{rpc: rpc.NewClient(ours), kill: kill, work: work, patience: p.patience}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.serve(c, first)
	}()
	why := forwardLog(stderr, p.options.Stderr) // standard error ends with the child
	err = cmd.Wait()
	c.rpc.Close()
	<-done
	switch {
	case why != "":
		return errors.New(why)
	case err != nil:
		return err
	}
	return errors.New("it has ended without a word")
}

// serve makes a child the one that is asked, and follows its news until it ends.
func (p *Process) serve(c *connection, first bool) {
	options := p.options.Speaker
	p.mu.Lock()
	options.Restarting = options.Restarting || !first && len(p.want.Peers) > 0
	p.mu.Unlock()
	if c.call(callBegin, options, new(none)) != nil {
		c.kill()
		return
	}
	p.started(c)
	ctx, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	background.Go(func() { p.tick(ctx, c) })
	_ = p.applyAgain() // errors come back when the agent calls Apply
	for {
		var n News
		if call := <-c.rpc.Go(callFollow, none(true), &n, nil).Done; call.Error != nil {
			p.mu.Lock()
			p.child, p.outage = nil, errEnded
			p.mu.Unlock()
			c.kill() // it may be alive: then nobody understands its answers
			return
		}
		p.mu.Lock()
		maps.Copy(p.learned, n.Learned)
		p.complete, p.up = n.Complete, n.Up
		if n.Applied {
			p.limitedAre(n.Limited)
		}
		p.mu.Unlock()
		p.signal()
	}
}

// limitedAre notes which peers the child has closed because they have sent too many routes. The next child is told.
func (p *Process) limitedAre(names []string) {
	before := p.limited
	p.limited = map[string]calc.Peer{}
	for _, name := range names {
		if now, wanted := p.want.Peers[name]; wanted {
			p.limited[name] = now
		}
		if then, known := before[name]; known {
			p.limited[name] = then
		}
	}
}

// started notes that a child runs.
func (p *Process) started(c *connection) {
	p.mu.Lock()
	p.child, p.outage, p.anew, p.complete = c, nil, true, false
	clear(p.learned)
	p.up = nil
	p.mu.Unlock()
	p.try()
	p.signal()
}

// tick looks after the suspects until the child has ended.
func (p *Process) tick(ctx context.Context, c *connection) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			p.mu.Lock()
			changed, restart := p.suspects.tick(now, p.up)
			p.replaced = p.replaced || restart
			p.mu.Unlock()
			if restart {
				c.kill()
			} else if changed {
				_ = p.applyAgain()
			}
		}
	}
}

// crashed notes why a child has ended.
func (p *Process) crashed(why error) {
	now := time.Now()
	p.mu.Lock()
	p.child, p.complete = nil, false
	if p.replaced {
		p.replaced, p.outage = false, errReplaced
		p.suspects.killed(now)
		p.mu.Unlock()
		p.options.Log.Info("the BGP process was replaced to try a peer without any other: peers keep the routes of this node meanwhile")
		return
	}
	p.ended, p.why = now, why.Error()
	p.outage = fmt.Errorf("the BGP process ended and is started again: %w", why)
	if strings.Contains(why.Error(), inGoBGP) {
		p.suspects.crashed(now, why.Error(), slices.Sorted(maps.Keys(p.want.Peers)), p.up)
	} else {
		p.suspects.killed(now) // no message of a peer did that
	}
	trial, closed := len(p.suspects.trial), slices.Sorted(maps.Keys(p.suspects.closed))
	p.mu.Unlock()
	log := p.options.Log.WithError(why)
	if len(closed) > 0 {
		log = log.WithField("closed", strings.Join(closed, ", "))
	}
	if trial > 0 {
		log = log.WithField("trying", trial)
	}
	log.Error("the BGP process ended and is started again: peers keep the routes of this node meanwhile")
}

// forwardLog copies the log of a child, and returns the reason if the child says why it ends.
func forwardLog(from io.Reader, to io.Writer) (why string) {
	lines, stacks := bufio.NewReader(from), 0
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			_, _ = io.WriteString(to, line)
		}
		if strings.HasPrefix(line, "goroutine ") {
			stacks++
		}
		if stacks <= 1 { // the first is that of the goroutine that panics
			why = reason(why, strings.TrimSpace(line))
		}
		if err != nil {
			return why
		}
	}
}

// parser begins the name of the function of GoBGP in a stack.
const (
	parser  = "github.com/osrg/gobgp/v3/pkg/"
	inGoBGP = " in GoBGP's "
)

// reason adds a line of a panic to the reason that is known: the first line, and then the first function of GoBGP.
func reason(why, line string) string {
	switch text, panics := strings.CutPrefix(line, "panic: "); {
	case why == "" && panics:
		return text
	case why == "" && strings.HasPrefix(line, "fatal error: "):
		return line
	case why == "" || strings.Contains(why, inGoBGP):
		return why
	}
	if function, ours := strings.CutPrefix(line, parser); ours {
		function, _, _ = strings.Cut(function, "(0x")
		return why + inGoBGP + strings.TrimSuffix(function, "(...)")
	}
	return why
}

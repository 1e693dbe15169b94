package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	progressAfter = time.Second            // shorter work shows no line
	progressEvery = 100 * time.Millisecond // shortest time between two lines
	eraseLine     = "\r\x1b[K"
)

// progress is a line on a terminal that shows how many objects are done. Each line overwrites the one before, and the last is
// erased when the work ends. A nil progress prints nothing.
type progress struct {
	to    io.Writer
	now   func() time.Time
	total int

	done    int
	started time.Time
	written time.Time // when the line was last written
	shown   bool
}

// progressOf returns the progress of work on total objects; nil if standard error is not a terminal.
func (s *session) progressOf(total int) *progress {
	if !s.terminal {
		return nil
	}
	return &progress{to: s.stderr, now: s.now, total: total, started: s.now()}
}

// step counts one more object as done. subject is the object's kind.
func (p *progress) step(subject string) {
	if p == nil {
		return
	}
	p.done++
	at := p.now()
	spent := at.Sub(p.started)
	if spent < progressAfter || at.Sub(p.written) < progressEvery {
		return
	}
	p.written, p.shown = at, true
	fmt.Fprintf(p.to, "%s%d/%d %s, %.0f/s", eraseLine, p.done, p.total, subject, float64(p.done)/spent.Seconds())
}

// clear erases the line. It is called before other output, and at the end.
func (p *progress) clear() {
	if p == nil || !p.shown {
		return
	}
	p.shown = false
	fmt.Fprint(p.to, eraseLine)
}

// isTerminal says whether a reader or writer is a terminal.
func isTerminal(w any) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	progressAfter = time.Second            // work that takes less needs no line
	progressEvery = 100 * time.Millisecond // faster than this nobody reads
	eraseLine     = "\r\x1b[K"
)

// progress is a line on a terminal that says how far a long piece of work is. It is written over itself, and is gone when the
// work has ended. One that is nil says nothing.
type progress struct {
	to    io.Writer
	now   func() time.Time
	total int

	done    int
	started time.Time
	written time.Time // when the line was last written
	shown   bool
}

// progressOf is a line about a number of objects, or nil where nobody would see it.
func (s *session) progressOf(total int) *progress {
	if !s.terminal {
		return nil
	}
	return &progress{to: s.stderr, now: s.now, total: total, started: s.now()}
}

// step says that one more object is done, and what is worked on.
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

// clear takes the line away, before something else is written and at the end.
func (p *progress) clear() {
	if p == nil || !p.shown {
		return
	}
	p.shown = false
	fmt.Fprint(p.to, eraseLine)
}

// isTerminal says whether somebody looks at what is written, or types what is read.
func isTerminal(w any) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

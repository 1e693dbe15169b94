package interfaces

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/fib"
)

// uplinks knows the interfaces by which default routes leave, in any routing table.
//
// A new default route has a notification and counts at once. When one may have gone, the routing tables are read, in the
// background and a moment later. The kernel sends no notification when it removes the IPv4 routes of an interface that goes down
// or loses an address, and a route to the same destination may still exist in another table or with another metric. Reading walks
// all routes of the host, so one reading serves many events, and readings take at most a twentieth of one processor. Until the
// reading, an uplink stays an uplink. That is the safe side: an uplink is never a workload's interface.
type uplinks struct {
	log    *logrus.Entry
	reader *fib.Reader
	gone   chan struct{} // has an element if a default route may have gone
	closed chan struct{}
	done   sync.WaitGroup

	mu       sync.Mutex
	known    map[int]bool // by index
	arrived  map[int]bool // default routes by them came while the tables were being read
	readings int
}

// newUplinks reads the default routes.
func newUplinks(log *logrus.Entry) (*uplinks, error) {
	reader, err := fib.NewReader()
	if err != nil {
		return nil, err
	}
	u := &uplinks{
		log: log, reader: reader, gone: make(chan struct{}, 1), closed: make(chan struct{}),
		known: map[int]bool{}, arrived: map[int]bool{},
	}
	if _, err := u.read(); err != nil {
		reader.Close()
		return nil, err
	}
	return u, nil
}

// follow reads the default routes again whenever one may have gone. It calls changed, from another goroutine, when the uplinks
// have changed.
func (u *uplinks) follow(changed func()) { u.done.Go(func() { u.run(changed) }) }

func (u *uplinks) close() {
	close(u.closed)
	u.done.Wait()
	u.reader.Close()
}

// mark sets Uplink of each interface.
func (u *uplinks) mark(links Links) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, link := range links {
		if link.Uplink != u.known[i] {
			link.Uplink = u.known[i]
			links[i] = link
		}
	}
}

// note reads events about default routes. before and after are the interfaces before and after these events.
func (u *uplinks) note(messages []syscall.NetlinkMessage, before, after Links) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWROUTE:
			if d, ok := fib.ParseDefault(m.Data); ok {
				u.add(d)
				if m.Header.Flags&unix.NLM_F_REPLACE != 0 {
					u.suspect()
				}
			}
		case unix.RTM_DELROUTE:
			if fib.IsDefault(m.Data) {
				u.suspect()
			}
		}
	}
	for i := range u.known {
		is, was := after[i], before[i]
		if was.Up && !is.Up || len(is.Addresses) < len(was.Addresses) {
			u.suspect()
		}
	}
}

func (u *uplinks) add(d fib.Default) {
	for _, i := range d.Interfaces {
		u.known[i], u.arrived[i] = true, true
	}
}

// suspect has the default routes read again.
func (u *uplinks) suspect() {
	select {
	case u.gone <- struct{}{}:
	default:
	}
}

// run reads the default routes whenever one may have gone, until the end.
func (u *uplinks) run(changed func()) {
	const (
		burst = 20 * time.Millisecond // events come in groups
		part  = 20                    // of the time goes to reading
	)
	wait := func(d time.Duration) (open bool) {
		select {
		case <-time.After(d):
			return true
		case <-u.closed:
			return false
		}
	}
	for {
		select {
		case <-u.gone:
		case <-u.closed:
			return
		}
		if !wait(burst) {
			return
		}
		began := time.Now()
		other, err := u.read()
		if err != nil {
			u.log.WithError(err).Warn("default routes cannot be read; the known uplinks stay, and felix tries again")
			u.suspect()
		}
		if other {
			changed()
		}
		if pause := part * time.Since(began); !wait(min(max(pause, burst), time.Minute)) {
			return
		}
	}
}

// read reads all default routes. It says whether the uplinks have changed.
func (u *uplinks) read() (other bool, err error) {
	u.mu.Lock()
	clear(u.arrived)
	u.readings++
	u.mu.Unlock()
	routes, err := u.reader.Defaults()
	partial := errors.Is(err, netlink.ErrDumpInterrupted)
	if err != nil && !partial {
		return false, fmt.Errorf("find the uplinks: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	before := u.known
	u.known = maps.Clone(u.arrived)
	if partial {
		maps.Copy(u.known, before)
	}
	for _, d := range routes {
		for _, i := range d.Interfaces {
			u.known[i] = true
		}
	}
	if len(u.arrived) > 0 || partial {
		u.suspect() // routes that came during the reading may have gone again
	}
	return !maps.Equal(before, u.known), nil
}

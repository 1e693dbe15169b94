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

// uplinks knows by which interfaces default routes leave, in any routing table.
//
// A default route that comes is told by its notification and counts at once. One that goes is looked for by reading
// the routing tables, in the background and a moment later: the kernel removes the IPv4 routes of an interface that goes down or
// loses an address without a notification, and a route to the same destination may still be there in another table, or
// with another metric. Reading walks all routes of the host, so it happens once for many events, and takes no more than a
// twentieth of a processor's time. Until then an uplink stays an uplink, which is the safe side: an
// uplink is never a workload's interface.
type uplinks struct {
	log    *logrus.Entry
	reader *fib.Reader
	doubt  chan struct{} // a default route may have gone
	closed chan struct{}
	done   sync.WaitGroup

	mu       sync.Mutex
	known    map[int]bool // by index
	late     map[int]bool // came while the tables were being read
	readings int
}

// newUplinks reads the default routes.
func newUplinks(log *logrus.Entry) (*uplinks, error) {
	reader, err := fib.NewReader()
	if err != nil {
		return nil, err
	}
	u := &uplinks{
		log: log, reader: reader, doubt: make(chan struct{}, 1), closed: make(chan struct{}),
		known: map[int]bool{}, late: map[int]bool{},
	}
	if _, err := u.read(); err != nil {
		reader.Close()
		return nil, err
	}
	return u, nil
}

// follow reads the default routes again when one may have gone. changed is called, from another goroutine, when that
// found other uplinks.
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

// note takes up what events say of default routes. before are the interfaces before these events, after are they now.
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
		u.known[i], u.late[i] = true, true
	}
}

// suspect has the default routes read again.
func (u *uplinks) suspect() {
	select {
	case u.doubt <- struct{}{}:
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
		case <-u.doubt:
		case <-u.closed:
			return
		}
		if !wait(burst) {
			return
		}
		began := time.Now()
		other, err := u.read()
		if err != nil {
			u.log.WithError(err).Warn("default routes cannot be read; the uplinks known so far stay, and it is tried again")
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

// read learns all default routes. It says whether they leave by other interfaces than was known.
func (u *uplinks) read() (other bool, err error) {
	u.mu.Lock()
	clear(u.late)
	u.readings++
	u.mu.Unlock()
	routes, err := u.reader.Defaults()
	partial := errors.Is(err, netlink.ErrDumpInterrupted)
	if err != nil && !partial {
		return false, fmt.Errorf("which interfaces are uplinks: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	before := u.known
	u.known = maps.Clone(u.late)
	if partial {
		maps.Copy(u.known, before)
	}
	for _, d := range routes {
		for _, i := range d.Interfaces {
			u.known[i] = true
		}
	}
	if len(u.late) > 0 || partial {
		u.suspect() // what came late may have gone again
	}
	return !maps.Equal(before, u.known), nil
}

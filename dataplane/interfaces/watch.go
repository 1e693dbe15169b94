package interfaces

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watcher keeps Links as the kernel reports them. It belongs to the network namespace of the thread that made it.
type Watcher struct {
	log    *logrus.Entry
	handle *netlink.Handle
	events *nl.NetlinkSocket
	wake   func()
	closed atomic.Bool
	done   sync.WaitGroup

	mu       sync.Mutex
	links    Links
	revision uint64
	life     uint64 // the last that was given to a Link
}

// groups are the kernel's announcements that matter. Of routes only default routes are looked at.
var groups = [...]uint{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
}

// Room for a burst of events: a host that starts hundreds of virtual machines, or a router's full table.
const eventBuffer = 4 << 20

// Watch lists the interfaces and follows their changes. wake is called after each change, from another goroutine;
// it must not block.
func Watch(log *logrus.Entry, wake func()) (*Watcher, error) {
	events, err := nl.Subscribe(unix.NETLINK_ROUTE, groups[:]...)
	if err != nil {
		return nil, fmt.Errorf("subscribe to interface events: %w", err)
	}
	if err := events.SetReceiveBufferSize(eventBuffer, true); err != nil {
		log.WithError(err).Debug("interface events keep the default buffer")
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		events.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	w := &Watcher{log: log, handle: handle, events: events, wake: wake}
	if w.links, err = list(handle); err != nil {
		events.Close()
		handle.Close()
		return nil, err
	}
	w.done.Go(w.follow)
	return w, nil
}

// Close ends the Watcher's goroutine and waits for it.
func (w *Watcher) Close() {
	w.closed.Store(true)
	w.events.Close()
	w.done.Wait()
	w.handle.Close()
}

// Links returns the interfaces as they are now.
func (w *Watcher) Links() Links {
	links, _ := w.Snapshot()
	return links
}

// Snapshot returns the interfaces as they are now, and a number that is another one after each change.
func (w *Watcher) Snapshot() (Links, uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.links, w.revision
}

// Resync lists all interfaces at once, for a caller that saw something the events did not tell.
func (w *Watcher) Resync() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.relist()
}

// follow applies events until the socket is closed.
func (w *Watcher) follow() {
	for {
		messages, from, err := w.events.Receive()
		switch {
		case w.closed.Load():
			return
		case err != nil:
			w.recover(err)
			continue
		case from.Pid != nl.PidKernel:
			continue
		}
		w.mu.Lock()
		next := apply(w.links, &w.life, messages)
		if maybeUplinks(messages) {
			w.markUplinks(next)
		}
		changed := !maps.EqualFunc(w.links, next, Link.equal)
		if changed {
			w.links = next
			w.revision++
		}
		w.mu.Unlock()
		if changed {
			w.wake()
		}
	}
}

// recover lists everything anew after events were lost. While that fails the old picture stays. It takes its time, for
// an error that stays must not keep a processor busy.
func (w *Watcher) recover(cause error) {
	time.Sleep(20 * time.Millisecond)
	w.mu.Lock()
	err := w.relist()
	w.mu.Unlock()
	if err != nil {
		w.log.WithError(err).Warn("interface events were lost and the interfaces cannot be listed; trying again")
		return
	}
	w.log.WithError(cause).Info("interface events were lost; all interfaces were listed anew")
	w.wake()
}

// relist replaces the picture. What happened meanwhile is unknown, so every life has ended as far as we can tell.
func (w *Watcher) relist() error {
	next, err := list(w.handle)
	if err != nil {
		return err
	}
	w.life++
	for i, link := range next {
		link.Life = w.life
		next[i] = link
	}
	w.links = next
	w.revision++
	return nil
}

// maybeUplinks says whether a default route may have come or gone. The kernel removes the IPv4 routes of an interface
// that goes down without a word.
func maybeUplinks(messages []syscall.NetlinkMessage) bool {
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if len(m.Data) >= unix.SizeofRtMsg && nl.DeserializeRtMsg(m.Data).Dst_len == 0 {
				return true
			}
		case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_DELADDR:
			return true
		}
	}
	return false
}

func (w *Watcher) markUplinks(links Links) {
	uplinks, err := uplinks(w.handle)
	if err != nil {
		w.log.WithError(err).Warn("default routes cannot be listed; the uplinks known so far stay")
		return
	}
	for i, link := range links {
		link.Uplink = uplinks[i]
		links[i] = link
	}
}

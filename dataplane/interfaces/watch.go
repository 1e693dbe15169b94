package interfaces

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/dataplane/fib"
)

// Watcher keeps Links up to date. It belongs to the network namespace of the thread that made it.
type Watcher struct {
	log     *logrus.Entry
	handle  *netlink.Handle
	events  *nl.NetlinkSocket
	uplinks *uplinks
	wake    func()
	closed  atomic.Bool
	done    sync.WaitGroup

	mu       sync.Mutex
	links    Links
	revision uint64
	life     uint64 // the last that was given to a Link
}

// groups has the multicast groups that Watcher joins. OnlyDefaults filters those of routes.
var groups = [...]uint{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
}

// eventBuffer is the size of the receive buffer, in bytes. It holds the events of a host that starts hundreds of virtual machines.
const eventBuffer = 4 << 20

// Watch lists the interfaces and follows their changes. wake is called after each change, from another goroutine;
// it must not block.
func Watch(log *logrus.Entry, wake func()) (*Watcher, error) {
	events, err := subscribe(log)
	if err != nil {
		return nil, err
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		events.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	w := &Watcher{log: log, handle: handle, events: events, wake: wake}
	if w.uplinks, err = newUplinks(log); err == nil {
		if w.links, err = list(handle); err != nil {
			w.uplinks.close()
		}
	}
	if err != nil {
		events.Close()
		handle.Close()
		return nil, err
	}
	w.uplinks.mark(w.links)
	w.uplinks.follow(w.remark)
	w.done.Go(w.follow)
	return w, nil
}

func subscribe(log *logrus.Entry) (*nl.NetlinkSocket, error) {
	events, err := nl.Subscribe(unix.NETLINK_ROUTE, groups[:]...)
	if err != nil {
		return nil, fmt.Errorf("subscribe to interface events: %w", err)
	}
	if err := fib.OnlyDefaults(events.GetFd()); err != nil {
		events.Close()
		return nil, err
	}
	if err := events.SetReceiveBufferSize(eventBuffer, true); err != nil {
		log.WithError(err).Debug("interface events keep the default buffer")
	}
	return events, nil
}

// Close ends the Watcher's goroutine and waits for it.
func (w *Watcher) Close() {
	w.closed.Store(true)
	w.events.Close()
	w.done.Wait()
	w.uplinks.close()
	w.handle.Close()
}

// Links returns the present interfaces.
func (w *Watcher) Links() Links {
	links, _ := w.Snapshot()
	return links
}

// Snapshot returns the present interfaces, and a number that changes with them.
func (w *Watcher) Snapshot() (Links, uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.links, w.revision
}

// Resync lists all interfaces now, for a caller that saw a change without an event.
func (w *Watcher) Resync() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.relist()
}

// Way returns the interfaces, by index, by which packets of the host to an address leave: several for a multipath route,
// none when there is no route or the address is the host's own.
func (w *Watcher) Way(to netip.Addr) (indexes []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if zone := to.Zone(); zone != "" {
		if link, there := w.links.Named(zone); there {
			indexes = append(indexes, link.Index)
		}
		return indexes
	}
	routes, err := w.handle.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil {
		return nil
	}
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST {
			continue
		}
		if r.LinkIndex != 0 {
			indexes = append(indexes, r.LinkIndex)
		}
		for _, hop := range r.MultiPath {
			indexes = append(indexes, hop.LinkIndex)
		}
	}
	return indexes
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
		next := w.readVLANs(apply(w.links, &w.life, messages), messages)
		w.uplinks.note(messages, w.links, next)
		changed := w.replace(next)
		w.mu.Unlock()
		if changed {
			w.wake()
		}
	}
}

// readVLANs reads the VLANs of ports again if a message tells of ports, or of an interface, which may be one. If it cannot, they stay.
func (w *Watcher) readVLANs(links Links, messages []syscall.NetlinkMessage) Links {
	told := slices.ContainsFunc(messages, func(m syscall.NetlinkMessage) bool { return tellVLANs(m) || m.Header.Type == unix.RTM_NEWLINK })
	if !told {
		return links
	}
	next, err := withVLANs(links, w.handle.BridgeVlanList)
	if err != nil {
		w.log.WithError(err).Warn("the VLANs of bridge ports stay as they were read before, until the next change")
	}
	return next
}

// replace stores the interfaces if they have changed.
func (w *Watcher) replace(next Links) (changed bool) {
	w.uplinks.mark(next)
	if maps.EqualFunc(w.links, next, Link.equal) {
		return false
	}
	w.links = next
	w.revision++
	return true
}

// remark updates Uplink of all interfaces.
func (w *Watcher) remark() {
	w.mu.Lock()
	changed := w.replace(maps.Clone(w.links))
	w.mu.Unlock()
	if changed {
		w.wake()
	}
}

// recover lists all interfaces again after events were lost. If that fails, the former list stays. It begins with a pause, because a
// lasting error must not keep a processor busy.
func (w *Watcher) recover(cause error) {
	time.Sleep(20 * time.Millisecond)
	w.mu.Lock()
	err := w.relist()
	w.mu.Unlock()
	if err != nil {
		w.log.WithError(err).Warn("interface events were lost and the interfaces cannot be listed; felix tries again")
		return
	}
	w.log.WithError(cause).Info("interface events were lost; all interfaces are listed again")
	w.wake()
}

// relist lists all interfaces. The lost events may have ended the life of any of them, so each gets a new life.
func (w *Watcher) relist() error {
	next, err := list(w.handle)
	if err != nil {
		return err
	}
	w.uplinks.mark(next)
	w.uplinks.suspect()
	w.life++
	for i, link := range next {
		link.Life = w.life
		next[i] = link
	}
	w.links = next
	w.revision++
	return nil
}

// Package notify receives the kernel's notifications of changes, by whichever process.
package notify

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Listener receives the kernel's notifications until it is closed. It belongs to the network namespace of the thread that
// made it.
type Listener struct {
	socket *nl.NetlinkSocket
	closed atomic.Bool
	done   sync.WaitGroup
}

// Handler is called from the Listener's goroutine. It must not block.
type Handler struct {
	Heard func([]syscall.NetlinkMessage)
	Lost  func() // the buffer was full, and some notifications were lost
}

// buffer is the size of the receive buffer, in bytes: it holds a burst of notifications.
const buffer = 1 << 20

// Listen joins multicast groups of a netlink protocol. The kernel drops notifications that the filter, if there is one, does not
// pass.
func Listen(protocol int, groups []uint, filter []unix.SockFilter, h Handler) (*Listener, error) {
	socket, err := nl.Subscribe(protocol, groups...)
	if err != nil {
		return nil, fmt.Errorf("subscribe to the kernel's notifications: %w", err)
	}
	_ = socket.SetReceiveBufferSize(buffer, true) // with a smaller one more notifications are lost, and each loss leads to a reading
	l := &Listener{socket: socket}
	if len(filter) > 0 {
		if err := l.Filter(filter); err != nil {
			socket.Close()
			return nil, err
		}
	}
	l.done.Go(func() { l.follow(h) })
	return l, nil
}

// Filter replaces the filter.
func (l *Listener) Filter(program []unix.SockFilter) error {
	err := unix.SetsockoptSockFprog(l.socket.GetFd(), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err != nil {
		return fmt.Errorf("filter the notifications of the kernel: %w", err)
	}
	return nil
}

// Close ends the goroutine and waits for it.
func (l *Listener) Close() {
	l.closed.Store(true)
	l.socket.Close()
	l.done.Wait()
}

func (l *Listener) follow(h Handler) {
	for {
		messages, from, err := l.socket.Receive()
		switch {
		case l.closed.Load():
			return
		case err != nil:
			time.Sleep(20 * time.Millisecond) // a lasting error must not keep a processor busy
			h.Lost()
		case from.Pid == nl.PidKernel:
			h.Heard(messages)
		}
	}
}

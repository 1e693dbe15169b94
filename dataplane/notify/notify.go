// Package notify listens to what the kernel tells of changes that anybody made to it.
package notify

import (
	"encoding/binary"
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
	Lost  func() // the kernel had no room: some notifications never came
}

// buffer is room for a burst of notifications.
const buffer = 1 << 20

// Listen joins multicast groups of a netlink protocol. The filter, when there is one, leaves out messages in the kernel.
func Listen(protocol int, groups []uint, filter []unix.SockFilter, h Handler) (*Listener, error) {
	socket, err := nl.Subscribe(protocol, groups...)
	if err != nil {
		return nil, fmt.Errorf("subscribe to the kernel's notifications: %w", err)
	}
	_ = socket.SetReceiveBufferSize(buffer, true) // a smaller one loses more, and what is lost is read back
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
		return fmt.Errorf("have the kernel leave out notifications: %w", err)
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
			time.Sleep(20 * time.Millisecond) // an error that stays must not keep a processor busy
			h.Lost()
		case from.Pid == nl.PidKernel:
			h.Heard(messages)
		}
	}
}

// HostOrder is a 16-bit field of a netlink message as a filter loads it: messages are in the order of the processor, and
// a filter takes everything for network order.
func HostOrder(v uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v)))
}

package lab

import (
	"bytes"
	"errors"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// Wire is a packet socket on an interface of a host. It sends frames as they are, to one station, and sees every frame that
// arrives.
type Wire struct {
	FD  int              // of the socket
	MAC net.HardwareAddr // of the interface
	To  net.HardwareAddr // the station that frames are sent to

	t     T
	index int
}

// Wire opens a packet socket on an interface until the test ends. Frames are sent to the station to.
func (h *Host) Wire(dev string, to net.HardwareAddr) *Wire {
	h.t.Helper()
	w := &Wire{t: h.t, To: to}
	h.Must(func() error {
		link, err := linkByName(dev)
		if err != nil {
			return err
		}
		w.index, w.MAC = link.Attrs().Index, link.Attrs().HardwareAddr
		w.FD, err = openPacketSocket(w.index)
		return err
	})
	h.t.Cleanup(func() { _ = unix.Close(w.FD) })
	return w
}

func openPacketSocket(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
	return fd, errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index, Protocol: all}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(Patience.Seconds())}))
}

// Send sends frames, each with the wire's station as its destination.
func (w *Wire) Send(frames ...[]byte) {
	w.t.Helper()
	for _, f := range frames {
		f = slices.Concat(w.To, f[6:])
		if err := unix.Sendto(w.FD, f, 0, &unix.SockaddrLinklayer{Ifindex: w.index}); err != nil {
			w.t.Fatalf("send a frame: %v", err)
		}
	}
}

// Until returns the frames that arrive before one that holds the mark.
func (w *Wire) Until(mark string) (before [][]byte) {
	w.t.Helper()
	return w.Await(mark, func(f []byte) bool { return bytes.Contains(f, []byte(mark)) })
}

// Await returns the frames that arrive before one that fits.
func (w *Wire) Await(what string, fits func(frame []byte) bool) (before [][]byte) {
	w.t.Helper()
	buffer := make([]byte, 4096)
	for {
		n, from, err := unix.Recvfrom(w.FD, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			w.t.Fatalf("waiting for %q: %v; until then came %d frames: %x", what, err, len(before), before)
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if fits(buffer[:n]) {
			return before
		}
		before = append(before, bytes.Clone(buffer[:n]))
	}
}

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/packet"
)

// wireBehind is a wire at the far end of an interface, which the router takes for the place of the addresses.
func (r *router) wireBehind(t *testing.T, name string, addresses ...string) *lab.Wire {
	t.Helper()
	near := r.on.Link(name).Attrs()
	w := r.on.Wire(name+"p", near.HardwareAddr)
	for _, a := range addresses {
		must(t, netlink.NeighSet(&netlink.Neigh{
			LinkIndex: near.Index, IP: net.ParseIP(a), HardwareAddr: w.MAC, State: netlink.NUD_PERMANENT}))
	}
	must(t, unix.SetsockoptInt(w.FD, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	must(t, unix.SetsockoptTimeval(w.FD, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000}))
	return w
}

// stream is a connection that both of its ends never stop to send on, and the change of policy that they last heard of.
type stream struct {
	flowUnderTest
	number   uint16
	wires    [2]*lab.Wire // of the opener, of the replier
	sent     [2]atomic.Uint64
	received [2]atomic.Uint64 // the last change that a packet carried which came through, of opener and replier
}

// frame is a packet of one end that carries the stream's number and the change of which its sender knows.
func (s *stream) frame(end int, change uint64) []byte {
	packet := s.question(s.opener, s.replier)
	if end == 1 {
		packet = s.answer(s.opener, s.replier)
	}
	return carry(s.wires[end], packet, s.number, end, change)
}

const mark = "margay stream"

// carry is a packet to the station of a wire that carries the stream's number and a change.
func carry(w *lab.Wire, frame []byte, number uint16, end int, change uint64) []byte {
	payload := append16([]byte(mark), number)
	payload = binary.BigEndian.AppendUint64(append(payload, byte(end)), change)
	frame = packet.Fitted(append(frame, payload...))
	copy(frame, w.To)
	return frame
}

// storm is a history with real packets: streams that flow while policies change.
type storm struct {
	*history
	wires   map[int]*lab.Wire // of each workload, and -1: of the rest of the world
	streams []*stream
	now     atomic.Uint64 // number of the last change that is complete, for senders
	still   atomic.Uint64 // the same, until the next one begins
	allowed [][]bool      // of each change, each stream; written before the change is announced in now
	mu      sync.RWMutex  // guards allowed
	stop    atomic.Bool
	errs    chan error
}

func newStorm(t *testing.T) *storm {
	s := &storm{history: newHistory(t), errs: make(chan error, 100)}
	s.wires = map[int]*lab.Wire{
		0: s.wireBehind(t, "v1", alice, alice6), 1: s.wireBehind(t, "v2", carol, carol6), -1: s.wireBehind(t, "up", bob, bob6)}
	for i, f := range s.flows {
		s.streams = append(s.streams, &stream{flowUnderTest: f, number: uint16(i),
			wires: [2]*lab.Wire{s.wires[workloadOf(f.opener)], s.wires[workloadOf(f.replier)]}})
	}
	s.attached(t, s.v1, s.v2)
	return s
}

// allowedNow says of each stream whether policy lets its opener through everywhere.
func (s *storm) allowedNow() (all []bool) {
	for _, f := range s.flows {
		ok := true
		for _, at := range f.workloads() {
			ok = ok && s.allows(f, at)
		}
		all = append(all, ok)
	}
	return all
}

func (s *storm) mayPass(change uint64, stream uint16) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.allowed[change][stream]
}

// announce tells the senders that the change is complete: packets that they send from now on are judged by it.
func (s *storm) announce() uint64 {
	s.mu.Lock()
	s.allowed = append(s.allowed, s.allowedNow())
	n := uint64(len(s.allowed) - 1)
	s.mu.Unlock()
	s.now.Store(n)
	s.still.Store(n)
	return n
}

func (s *storm) fail(err error) {
	select {
	case s.errs <- err:
	default:
	}
}

// sendAll sends packets of one end of each stream until the storm is over.
func (s *storm) sendAll(end int) {
	for !s.stop.Load() {
		for _, f := range s.streams {
			change := s.now.Load()
			if _, err := unix.Write(f.wires[end].FD, f.frame(end, change)); err != nil && !errors.Is(err, unix.ENOBUFS) {
				s.fail(fmt.Errorf("send a packet of %s: %w", f.name, err))
			}
			f.sent[end].Store(change)
		}
		lab.LetPass(100 * time.Microsecond) // leave some of the machine to others
	}
}

// receiveAll looks at all that comes through to a wire. A packet is one too many if its sender knew a change that denies
// it, and no later change had begun when it arrived.
func (s *storm) receiveAll(w *lab.Wire) {
	buffer := make([]byte, 2048)
	for !s.stop.Load() {
		n, err := unix.Read(w.FD, buffer)
		if err != nil {
			if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
				s.fail(fmt.Errorf("receive packets: %w", err))
			}
			continue
		}
		b := buffer[:n]
		at := n - len(mark) - 11
		if at < 0 || string(b[at:at+len(mark)]) != mark {
			continue
		}
		b = b[at+len(mark):]
		number, end, change := binary.BigEndian.Uint16(b), b[2], binary.BigEndian.Uint64(b[3:])
		f := s.streams[number]
		if f.wires[1-end] != w {
			continue
		}
		if s.still.Load() == change && !s.mayPass(change, number) {
			s.fail(fmt.Errorf("change %d: a packet of %s from %s to %s passed, sent by end %d", change, f.name, f.opener, f.replier, end))
		}
		f.received[end].Store(change)
	}
}

// settle waits until both ends of each stream have sent, and those that may have been heard.
func (s *storm) settle(change uint64) error {
	const patience = 2 * time.Minute
	deadline := time.Now().Add(patience)
	for i, f := range s.streams {
		for end := range 2 {
			for f.sent[end].Load() < change || s.mayPass(change, uint16(i)) && f.received[end].Load() < change {
				select {
				case err := <-s.errs:
					return err
				case <-time.After(50 * time.Microsecond):
				}
				if time.Now().After(deadline) {
					return fmt.Errorf("change %d: nothing passed of %s from %s to %s, end %d, in %v", change, f.name, f.opener, f.replier, end, patience)
				}
			}
		}
	}
	return nil
}

// TestNoPacketPassesThatPolicyDenies changes policies under streams that never pause, of all protocols, both ends of
// which send. A stream that policy allows again goes on.
func TestNoPacketPassesThatPolicyDenies(t *testing.T) {
	const changes = 1000
	s := newStorm(t)
	s.announce()
	var running sync.WaitGroup
	for end := range 2 {
		running.Go(func() { s.sendAll(end) })
	}
	for _, w := range s.wires {
		running.Go(func() { s.receiveAll(w) })
	}
	defer running.Wait()
	defer s.stop.Store(true)
	for range changes {
		s.still.Store(math.MaxUint64)
		s.turn()
		must(t, s.settle(s.announce()))
	}
	select {
	case err := <-s.errs:
		t.Fatal(err)
	default:
	}
}

// TestRevokedStreamsOfRealSocketsEnd lets real sockets speak: the client has opened, policy denies, and either side
// sends first. Nothing arrives until policy allows again.
func TestRevokedStreamsOfRealSocketsEnd(t *testing.T) {
	const rounds = 6
	r, allow, deny := inbound(t)
	outside, inside := r.behind(t, "up", bob, bob6), r.behind(t, "v1", alice, alice6)
	r.attached(t, r.v1)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for _, to := range []string{alice, alice6} {
		l := inside.Listen(net.JoinHostPort(to, "5000"))
		client, err := outside.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
		must(t, err)
		defer client.Close()
		server, err := l.Accept()
		must(t, err)
		defer server.Close()
		transfer(t, client, server, 1<<20)
		for range rounds {
			first, second := client, server
			if random.IntN(2) == 0 {
				first, second = server, client
			}
			before := r.revoked()
			r.workload(r.v1, 5, deny, allow)
			r.shared.AdvanceEpoch()
			for _, c := range []net.Conn{first, second} {
				_, err := c.Write([]byte("late"))
				must(t, err)
			}
			for r.revoked() < before+4 { // both have tried, and tried again
				for _, c := range []net.Conn{first, second} {
					must(t, c.SetReadDeadline(time.Now().Add(5*time.Millisecond)))
					if n, err := c.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatalf("%d bytes came through from %v, %v", n, c.RemoteAddr(), err)
					}
					must(t, c.SetReadDeadline(time.Time{}))
				}
			}
			r.workload(r.v1, 5, allow, allow)
			r.shared.AdvanceEpoch()
			for _, c := range []net.Conn{first, second} {
				b := make([]byte, 4)
				if _, err := c.Read(b); err != nil || string(b) != "late" {
					t.Errorf("after policy allows it again: %q, %v", b, err)
				}
			}
		}
		l.Close()
	}
}

// revoked is the number of packets dropped because their connection is no longer allowed.
func (r *rig) revoked() uint64 {
	r.Helper()
	counts, err := r.shared.ReasonCounts()
	must(r, err)
	return counts[DropRevoked].Packets
}

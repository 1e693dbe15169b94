package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// AnswerTime is how long an answer may take before a packet counts as dropped. A lab answers within a millisecond.
const AnswerTime = 150 * time.Millisecond

// Echo answers TCP and UDP on ports of all addresses of the host until the test ends: it sends back what comes.
func (h *Host) Echo(ports ...int) {
	h.t.Helper()
	for _, port := range ports {
		h.Must(func() error { return h.echo(port) })
	}
}

func (h *Host) echo(port int) error {
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
	if err != nil {
		listener.Close()
		return err
	}
	var running sync.WaitGroup
	h.t.Cleanup(func() { listener.Close(); packets.Close(); running.Wait() })
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }() // ends with the connection
		}
	})
	running.Go(func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(buffer[:n], from)
		}
	})
	return nil
}

// Listen listens for TCP connections until the test ends.
func (h *Host) Listen(address string) (listener net.Listener) {
	h.t.Helper()
	h.Must(func() (err error) { listener, err = net.Listen("tcp", address); return err })
	h.t.Cleanup(func() { listener.Close() })
	return listener
}

// Dial opens a connection from the host and waits for it no longer than a lab needs.
func (h *Host) Dial(network string, to netip.Addr, port int) (c net.Conn, err error) {
	return h.DialTimeout(network, netip.AddrPortFrom(to, uint16(port)).String(), AnswerTime)
}

// DialTimeout opens a connection from the host.
func (h *Host) DialTimeout(network, address string, patience time.Duration) (c net.Conn, err error) {
	err = h.Do(func() error {
		c, err = net.DialTimeout(network, address, patience)
		return err
	})
	return c, err
}

// DialContext opens a connection from the host, as net.Dialer does.
func (h *Host) DialContext(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = h.Do(func() error {
		c, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Reaches says whether a new connection is answered. It tries some times: the first packets may be lost while addresses are
// resolved.
func (h *Host) Reaches(network string, to netip.Addr, port int) bool {
	for range 10 {
		if h.ReachesAtOnce(network, to, port) {
			return true
		}
	}
	return false
}

// ReachesAtOnce says whether one new connection is answered.
func (h *Host) ReachesAtOnce(network string, to netip.Addr, port int) bool {
	c, err := h.Dial(network, to, port)
	if err != nil {
		return false
	}
	defer c.Close()
	return answered(c, AnswerTime)
}

// Answered sends a word by a connection to an Echo and says whether it comes back. It has time enough for a lost segment to
// be sent again.
func Answered(c net.Conn) bool { return answered(c, Patience) }

// AnsweredAtOnce is Answered for what may be dropped.
func AnsweredAtOnce(c net.Conn) bool { return answered(c, AnswerTime) }

func answered(c net.Conn, limit time.Duration) bool {
	word := []byte("hello")
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := c.Write(word); err != nil {
		return false
	}
	got := make([]byte, len(word))
	_, err := io.ReadFull(c, got)
	return err == nil && string(got) == string(word)
}

// Stream is a conversation that never pauses: numbered datagrams to an Echo, and which of them were answered.
type Stream struct {
	t    T
	conn net.Conn
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	sent     []Datagram
	answered int
}

// Datagram is one of a stream.
type Datagram struct {
	Sent     time.Time
	Answered bool
}

// Stream starts a stream and waits until it flows.
func (h *Host) Stream(to netip.Addr, port int, interval time.Duration) *Stream {
	h.t.Helper()
	conn, err := h.Dial("udp", to, port)
	h.check(err, "open a stream")
	s := &Stream{t: h.t, conn: conn, stop: make(chan struct{})}
	h.t.Cleanup(func() { conn.Close() })
	s.done.Go(func() { s.send(interval) })
	s.done.Go(s.receive)
	Until(h.t, "answers to a stream", func() bool { return s.Answers() > 5 })
	return s
}

func (s *Stream) send(interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		number := len(s.sent)
		s.sent = append(s.sent, Datagram{Sent: time.Now()})
		s.mu.Unlock()
		if _, err := s.conn.Write(binary.BigEndian.AppendUint32(nil, uint32(number))); err != nil {
			s.mu.Lock()
			s.sent = s.sent[:number] // the host itself refused it
			s.mu.Unlock()
		}
	}
}

func (s *Stream) receive() {
	buffer := make([]byte, 16)
	for {
		n, err := s.conn.Read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != 4 {
			continue
		}
		s.mu.Lock()
		if number := int(binary.BigEndian.Uint32(buffer)); number < len(s.sent) && !s.sent[number].Answered {
			s.sent[number].Answered = true
			s.answered++
		}
		s.mu.Unlock()
	}
}

// Answers is how many datagrams were answered so far.
func (s *Stream) Answers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// Unanswered is how many datagrams were sent since the last one that was answered.
func (s *Stream) Unanswered() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(s.sent) && !s.sent[len(s.sent)-1-n].Answered {
		n++
	}
	return n
}

// lateAnswers is how long the last answers may take on a busy machine.
const lateAnswers = 5 * time.Second

// End stops the stream. It returns all datagrams, once all are answered or the last answers had time to come.
func (s *Stream) End() []Datagram {
	close(s.stop)
	ended := time.Now()
	for time.Since(ended) < lateAnswers && s.missing() > 0 {
		time.Sleep(time.Millisecond)
	}
	_ = s.conn.Close()
	s.done.Wait()
	for i, d := range s.sent {
		if !d.Answered {
			s.t.Logf("the first datagram without an answer is number %d of %d, sent %v before the end", i, len(s.sent), ended.Sub(d.Sent).Round(time.Millisecond))
			break
		}
	}
	return s.sent
}

func (s *Stream) missing() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent) - s.answered
}

// Lost is how many datagrams were never answered.
func Lost(datagrams []Datagram) (n int) {
	for _, d := range datagrams {
		if !d.Answered {
			n++
		}
	}
	return n
}

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// patience is how long a packet may take before it counts as dropped; the lab answers within a millisecond.
const patience = 400 * time.Millisecond

// try is one attempt to reach something, and whether it should succeed.
type try struct {
	from     *host
	to       string // address
	protocol string // tcp, udp, ping
	port     int
	want     bool
	note     string
}

func (t try) String() string {
	what := t.protocol
	if t.port != 0 {
		what = fmt.Sprintf("%s/%d", t.protocol, t.port)
	}
	return fmt.Sprintf("%-7s -> %-12s %s", t.from.name, t.to, what)
}

// allowed sends real packets and says whether the answer came.
func (t try) allowed() bool {
	switch t.protocol {
	case "tcp":
		conn, err := t.from.dial("tcp", t.to, t.port)
		if err != nil {
			return false
		}
		defer conn.Close()
		return echo(conn) == nil
	case "udp":
		conn, err := t.from.dial("udp", t.to, t.port)
		if err != nil {
			return false
		}
		defer conn.Close()
		return echo(conn) == nil
	default:
		return t.from.ping(t.to) == nil
	}
}

func (h *host) dial(network, addr string, port int) (conn net.Conn, err error) {
	err = h.do(func() error {
		dialer := net.Dialer{Timeout: patience}
		conn, err = dialer.Dial(network, netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port)).String())
		return err
	})
	return conn, err
}

func echo(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 16))
	return err
}

// serve answers TCP and UDP on the given ports of the host with what it receives, until close.
func (h *host) serve(tcp, udp []int) (stop func(), err error) {
	var closers []interface{ Close() error }
	stop = func() {
		for _, c := range closers {
			c.Close()
		}
	}
	err = h.do(func() error {
		for _, port := range tcp {
			listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			closers = append(closers, listener)
			go serveTCP(listener)
		}
		for _, port := range udp {
			conn, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			closers = append(closers, conn)
			go serveUDP(conn)
		}
		return nil
	})
	return stop, err
}

func serveTCP(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			buf := make([]byte, 2048)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				conn.Write(buf[:n])
			}
		}()
	}
}

func serveUDP(conn net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		conn.WriteTo(buf[:n], from)
	}
}

// ping sends one echo request and waits for its reply.
func (h *host) ping(to string) error {
	addr := netip.MustParseAddr(to)
	network, protocol := "ip4:icmp", 1
	var request icmp.Type = ipv4.ICMPTypeEcho
	if addr.Is6() {
		network, protocol, request = "ip6:ipv6-icmp", 58, ipv6.ICMPTypeEchoRequest
	}
	var conn *icmp.PacketConn
	if err := h.do(func() (err error) { conn, err = icmp.ListenPacket(network, ""); return err }); err != nil {
		return err
	}
	defer conn.Close()
	id := int(time.Now().UnixNano() & 0xffff)
	message, err := (&icmp.Message{Type: request, Body: &icmp.Echo{ID: id, Seq: 1, Data: []byte("margay")}}).Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := conn.WriteTo(message, &net.IPAddr{IP: addr.AsSlice()}); err != nil {
		return err
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		reply, err := icmp.ParseMessage(protocol, buf[:n])
		if err != nil {
			continue
		}
		if body, ok := reply.Body.(*icmp.Echo); ok && body.ID == id && reply.Type != request {
			return nil
		}
	}
}

// stream is an open UDP conversation that sends a numbered packet at a fixed interval and notes which were answered.
type stream struct {
	conn     net.Conn
	interval time.Duration
	stopped  atomic.Bool
	done     sync.WaitGroup
	mu       sync.Mutex
	sent     []time.Time
	answered []bool
}

func (h *host) stream(to string, port int, interval time.Duration) (*stream, error) {
	conn, err := h.dial("udp", to, port)
	if err != nil {
		return nil, err
	}
	s := &stream{conn: conn, interval: interval}
	s.done.Add(2)
	go s.send()
	go s.receive()
	return s, nil
}

func (s *stream) send() {
	defer s.done.Done()
	tick := time.NewTicker(s.interval)
	defer tick.Stop()
	for !s.stopped.Load() {
		<-tick.C
		s.mu.Lock()
		number := len(s.sent)
		s.sent = append(s.sent, time.Now())
		s.answered = append(s.answered, false)
		s.mu.Unlock()
		s.conn.Write(binary.BigEndian.AppendUint32(nil, uint32(number)))
	}
}

func (s *stream) receive() {
	defer s.done.Done()
	buf := make([]byte, 16)
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || s.stopped.Load() {
				return
			}
			continue
		}
		if n != 4 {
			continue
		}
		s.mu.Lock()
		if number := int(binary.BigEndian.Uint32(buf)); number < len(s.answered) {
			s.answered[number] = true
		}
		s.mu.Unlock()
	}
}

// end stops the stream after the last answers had time to come back.
func (s *stream) end() (sent []time.Time, answered []bool) {
	s.stopped.Store(true)
	time.Sleep(50 * time.Millisecond)
	s.conn.Close()
	s.done.Wait()
	return s.sent, s.answered
}

// lost counts the packets without an answer.
func lost(answered []bool) (n int) {
	for _, ok := range answered {
		if !ok {
			n++
		}
	}
	return n
}

// firstUnanswered is the time of the first packet from which on none was answered; false when the last one was.
func firstUnanswered(sent []time.Time, answered []bool) (time.Time, bool) {
	first := len(answered)
	for first > 0 && !answered[first-1] {
		first--
	}
	if first == len(answered) {
		return time.Time{}, false
	}
	return sent[first], true
}

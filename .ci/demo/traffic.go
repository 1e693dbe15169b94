package main

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/margay-project/margay/internal/lab"
)

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
	if t.protocol == "ping" {
		return t.from.ping(t.to) == nil
	}
	return t.from.ReachesAtOnce(t.protocol, netip.MustParseAddr(t.to), t.port)
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
	if err := h.Do(func() (err error) { conn, err = icmp.ListenPacket(network, ""); return err }); err != nil {
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
	conn.SetReadDeadline(time.Now().Add(lab.AnswerTime))
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

// firstUnanswered is the time of the first datagram from which on none was answered; false when the last one was.
func firstUnanswered(datagrams []lab.Datagram) (time.Time, bool) {
	first := len(datagrams)
	for first > 0 && !datagrams[first-1].Answered {
		first--
	}
	if first == len(datagrams) {
		return time.Time{}, false
	}
	return datagrams[first].Sent, true
}

package dhcp

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
)

// Answer is the reaction to a question.
type Answer struct {
	Frame   []byte // empty: silence
	Note    string // in a few words; empty: nothing of interest
	Problem bool   // the note tells of something that an operator should mend
}

// Answer answers a frame of the workload. It never fails: a frame that makes no sense gets silence, and a note.
func (l Link) Answer(frame []byte) (a Answer) {
	defer func() { // the frame comes from a workload, which must not be able to end the agent
		if fault := recover(); fault != nil {
			a = Answer{Note: fmt.Sprintf("sent a message that felix cannot read: %v", fault)}
		}
	}()
	q, ok := parse(frame)
	switch {
	case !ok:
		return Answer{}
	case q.port == port4Server:
		return l.answerFrame4(q)
	case !l.LinkLocal.IsValid():
		return Answer{}
	case q.port == port6Server:
		return l.answerFrame6(q)
	}
	advertised, err := l.Advertisement(q.mac)
	if err != nil {
		return Answer{Note: err.Error(), Problem: true}
	}
	return Answer{Frame: advertised}
}

func (l Link) answerFrame4(q question) Answer {
	message, err := dhcpv4.FromBytes(q.message)
	if err != nil {
		return Answer{Note: fmt.Sprintf("sent a DHCP message that cannot be read: %v", err)}
	}
	reply, note, problem := l.answer4(message)
	a := Answer{Note: note, Problem: problem}
	if reply == nil {
		return a
	}
	// To a client that has an address, to the broadcast address for one that asks for it, else to the new address (RFC 2131, section 4.1).
	to, mac := netip.AddrFrom4([4]byte{255, 255, 255, 255}), broadcast()
	if client, ok := netip.AddrFromSlice(message.ClientIPAddr.To4()); ok && !client.IsUnspecified() && reply.MessageType() != dhcpv4.MessageTypeNak {
		to, mac = client, q.mac
	} else if given, ok := netip.AddrFromSlice(reply.YourIPAddr.To4()); ok && !given.IsUnspecified() && !message.IsBroadcast() {
		to, mac = given, q.mac
	}
	a.Frame = l.frame4(mac, to, reply.ToBytes())
	return a
}

func broadcast() net.HardwareAddr { return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

func (l Link) answerFrame6(q question) Answer {
	message, err := dhcpv6.MessageFromBytes(q.message)
	if err != nil {
		return Answer{Note: fmt.Sprintf("sent a DHCPv6 message that cannot be read: %v", err)}
	}
	reply, note, problem := l.answer6(message)
	a := Answer{Note: note, Problem: problem}
	if reply != nil {
		a.Frame = l.frame6(q.mac, q.from, reply.ToBytes())
	}
	return a
}

// Advertisement is a frame that names this host as the router, for one machine, or for all with nil. It is nil for a workload without an
// IPv6 address, and while this host has no link-local address on the link.
func (l Link) Advertisement(to net.HardwareAddr) ([]byte, error) {
	if !l.LinkLocal.IsValid() || len(l.Guest.addresses6()) == 0 {
		return nil, nil
	}
	message, err := l.advertisement()
	if err != nil {
		return nil, fmt.Errorf("make a router advertisement: %w", err)
	}
	if to == nil {
		to = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1} // RFC 2464, section 7
	}
	return l.frameICMPv6(to, netip.MustParseAddr("ff02::1"), message), nil
}

package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	etherIPv4, etherIPv6        = 0x0800, 0x86dd
	protoUDP, protoICMPv6       = 17, 58
	ethernetSize                = 14
	ipv4Size, ipv6Size          = 20, 40
	udpSize                     = 8
	port4Server                 = 67
	port4Client                 = 68
	port6Server                 = 547
	port6Client                 = 546
	routerSolicitation          = 133
	linkHopLimit                = 255 // proves that a message was not forwarded (RFC 4861, section 6.1)
	ordinaryHopLimit      uint8 = 64
)

// question is a frame in parts. The packet program has seen that it is for us; here only its lengths matter.
type question struct {
	mac     net.HardwareAddr // of the sender
	from    netip.Addr
	port    uint16 // of the server, 0 for ICMPv6
	message []byte // behind the header of UDP; of ICMPv6 the whole
}

// parse reads a frame. It reports false for one that is cut, that has extension headers, or that is none of the three questions.
func parse(frame []byte) (q question, ok bool) {
	if len(frame) < ethernetSize {
		return q, false
	}
	q.mac = net.HardwareAddr(frame[6:12])
	packet := frame[ethernetSize:]
	var proto uint8
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		q.from, proto, packet = parse4(packet)
	case etherIPv6:
		q.from, proto, packet = parse6(packet)
	}
	switch {
	case proto == protoICMPv6 && len(packet) >= 8 && packet[0] == routerSolicitation:
		q.message = packet
		return q, true
	case proto == protoUDP && len(packet) >= udpSize:
		q.port = binary.BigEndian.Uint16(packet[2:])
		length := int(binary.BigEndian.Uint16(packet[4:]))
		if length < udpSize || length > len(packet) {
			return q, false
		}
		q.message = packet[udpSize:length]
		return q, q.port == port4Server && q.from.Is4() || q.port == port6Server && q.from.Is6()
	}
	return q, false
}

func parse4(packet []byte) (from netip.Addr, proto uint8, rest []byte) {
	if len(packet) < ipv4Size {
		return from, 0, nil
	}
	header, length := int(packet[0]&15)*4, int(binary.BigEndian.Uint16(packet[2:]))
	if header < ipv4Size || length < header || length > len(packet) {
		return from, 0, nil
	}
	return netip.AddrFrom4([4]byte(packet[12:16])), packet[9], packet[header:length]
}

func parse6(packet []byte) (from netip.Addr, proto uint8, rest []byte) {
	if len(packet) < ipv6Size {
		return from, 0, nil
	}
	length := ipv6Size + int(binary.BigEndian.Uint16(packet[4:]))
	if length > len(packet) {
		return from, 0, nil
	}
	return netip.AddrFrom16([16]byte(packet[8:24])), packet[6], packet[ipv6Size:length]
}

// frame4 makes a frame with a UDP message from the server of DHCP for IPv4.
func (l Link) frame4(mac net.HardwareAddr, to netip.Addr, message []byte) []byte {
	udp := udpPacket(Gateway, to, port4Server, port4Client, message)
	b := l.ethernet(mac, etherIPv4)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(ipv4Size+len(udp)))
	b = append(b, 0, 0, 0x40, 0, ordinaryHopLimit, protoUDP, 0, 0) // not to be fragmented
	b = append(append(b, Gateway.AsSlice()...), to.AsSlice()...)
	header := b[ethernetSize:]
	binary.BigEndian.PutUint16(header[10:], checksum(0, header))
	return append(b, udp...)
}

// frame6 makes a frame with a UDP message from the server of DHCP for IPv6.
func (l Link) frame6(mac net.HardwareAddr, to netip.Addr, message []byte) []byte {
	return l.ipv6(mac, to, protoUDP, ordinaryHopLimit, udpPacket(l.LinkLocal, to, port6Server, port6Client, message))
}

// frameICMPv6 makes a frame with a message whose checksum it fills in.
func (l Link) frameICMPv6(mac net.HardwareAddr, to netip.Addr, message []byte) []byte {
	binary.BigEndian.PutUint16(message[2:], 0)
	binary.BigEndian.PutUint16(message[2:], checksum(pseudo(l.LinkLocal, to, protoICMPv6, len(message)), message))
	return l.ipv6(mac, to, protoICMPv6, linkHopLimit, message)
}

func (l Link) ipv6(mac net.HardwareAddr, to netip.Addr, proto, hops uint8, payload []byte) []byte {
	b := l.ethernet(mac, etherIPv6)
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(b, proto, hops)
	b = append(append(b, l.LinkLocal.AsSlice()...), to.AsSlice()...)
	return append(b, payload...)
}

func (l Link) ethernet(to net.HardwareAddr, kind uint16) []byte {
	b := append(append(make([]byte, 0, 1024), to...), l.MAC...)
	return binary.BigEndian.AppendUint16(b, kind)
}

func udpPacket(from, to netip.Addr, fromPort, toPort uint16, message []byte) []byte {
	b := make([]byte, udpSize, udpSize+len(message))
	binary.BigEndian.PutUint16(b, fromPort)
	binary.BigEndian.PutUint16(b[2:], toPort)
	binary.BigEndian.PutUint16(b[4:], uint16(udpSize+len(message)))
	b = append(b, message...)
	sum := checksum(pseudo(from, to, protoUDP, len(b)), b)
	if sum == 0 { // stands for no checksum (RFC 768)
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[6:], sum)
	return b
}

// pseudo is the sum of the pseudo header of a message (RFC 768; RFC 8200, section 8.1).
func pseudo(from, to netip.Addr, proto uint8, length int) uint32 {
	return add(add(uint32(proto)+uint32(length), from.AsSlice()), to.AsSlice())
}

// checksum is the checksum of the internet (RFC 1071), from a sum on.
func checksum(sum uint32, b []byte) uint16 {
	sum = add(sum, b)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func add(sum uint32, b []byte) uint32 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	return sum
}

package bpf

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/margay-project/margay/internal/lab/packet"
)

// frame is a packet in the making: tests change its parts before they take its bytes.
type frame struct {
	source, dest netip.Addr
	proto        uint8
	payload      []byte // from the transport header on

	mac        [6]byte // of the sender
	tags       []uint16
	hops       uint8
	options    []byte // IPv4, a multiple of 4, all of one byte each
	headers    []byte // IPv6 extension headers; first says which comes first
	first      uint8
	id         uint32 // of a fragment
	offset     uint16 // IPv4, in units of 8 bytes
	more       bool
	totalDelta int // makes the length in the header wrong
}

func newFrame(source, dest string, proto uint8, payload []byte) *frame {
	return &frame{
		source: netip.MustParseAddr(source), dest: netip.MustParseAddr(dest), proto: proto, payload: payload,
		mac: senderMAC, hops: 64, id: 7,
	}
}

var senderMAC, receiverMAC = [6]byte{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2}

func (f *frame) bytes() []byte {
	if f.source.Is4() {
		return slices.Concat(ethernet(f.mac, uint16(layers.EthernetTypeIPv4), f.tags...), f.ipv4())
	}
	return slices.Concat(ethernet(f.mac, uint16(layers.EthernetTypeIPv6), f.tags...), f.ipv6())
}

func ethernet(mac [6]byte, kind uint16, tags ...uint16) []byte {
	header := &layers.Ethernet{SrcMAC: mac[:], DstMAC: receiverMAC[:], EthernetType: layers.EthernetType(kind)}
	parts := []gopacket.SerializableLayer{header}
	for i := range tags {
		tag := &layers.Dot1Q{VLANIdentifier: tags[i], Type: layers.EthernetTypeDot1Q}
		if i == len(tags)-1 {
			tag.Type = header.EthernetType
		}
		parts = append(parts, tag)
	}
	if len(tags) > 0 {
		header.EthernetType = layers.EthernetTypeDot1Q
	}
	return packet.Bytes(parts...)
}

func (f *frame) ipv4() []byte {
	header := &layers.IPv4{
		Version: 4, IHL: uint8(5 + len(f.options)/4), Length: uint16(20 + len(f.options) + len(f.payload) + f.totalDelta),
		Id: uint16(f.id), FragOffset: f.offset, TTL: f.hops, Protocol: layers.IPProtocol(f.proto),
		SrcIP: f.source.AsSlice(), DstIP: f.dest.AsSlice(),
	}
	if f.more {
		header.Flags = layers.IPv4MoreFragments
	}
	for _, option := range f.options {
		header.Options = append(header.Options, layers.IPv4Option{OptionType: option})
	}
	return packet.Bytes(header, gopacket.Payload(f.payload))
}

func (f *frame) ipv6() []byte {
	first := f.proto
	if f.headers != nil {
		first = f.first
	}
	header := &layers.IPv6{
		Version: 6, Length: uint16(len(f.headers) + len(f.payload) + f.totalDelta), NextHeader: layers.IPProtocol(first), HopLimit: f.hops,
		SrcIP: as16(f.source), DstIP: as16(f.dest),
	}
	return packet.Bytes(header, gopacket.Payload(f.headers), gopacket.Payload(f.payload))
}

func as16(a netip.Addr) []byte { b := a.As16(); return b[:] }

// append16 appends numbers in network order.
func append16(b []byte, values ...uint16) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func udpHeader(sport, dport uint16) []byte {
	return packet.Bytes(&layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport), Length: 13}, gopacket.Payload("hello"))
}

// udp makes a datagram.
func udp(source, dest string, sport, dport uint16) []byte {
	return newFrame(source, dest, 17, udpHeader(sport, dport)).bytes()
}

// tcpHeader makes a segment; flags are letters of F, S, R, A.
func tcpHeader(sport, dport uint16, flags string, seq, ack uint32) []byte {
	return packet.Bytes(&layers.TCP{
		SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: seq, Ack: ack, DataOffset: 5, Window: 1000,
		FIN: strings.Contains(flags, "F"), SYN: strings.Contains(flags, "S"),
		RST: strings.Contains(flags, "R"), ACK: strings.Contains(flags, "A"),
	})
}

func tcp(source, dest string, sport, dport uint16, flags string, seq, ack uint32) []byte {
	return newFrame(source, dest, 6, tcpHeader(sport, dport, flags, seq, ack)).bytes()
}

func icmpProto(addr string) uint8 {
	if netip.MustParseAddr(addr).Is4() {
		return protoICMP
	}
	return protoICMPv6
}

// icmpHeader is that of a message of either version that has an identifier and a sequence number, as an echo request.
func icmpHeader(kind, code uint8, id uint16) []byte {
	return packet.Bytes(&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code), Id: id, Seq: 1})
}

// echo makes a ping or the answer to one.
func echo(source, dest string, answer bool, id uint16) []byte {
	kind := map[bool]uint8{false: layers.ICMPv4TypeEchoRequest, true: layers.ICMPv4TypeEchoReply}[answer]
	proto := icmpProto(source)
	if proto == protoICMPv6 {
		kind = map[bool]uint8{false: layers.ICMPv6TypeEchoRequest, true: layers.ICMPv6TypeEchoReply}[answer]
	}
	return newFrame(source, dest, proto, icmpHeader(kind, 0, id)).bytes()
}

// unreachable makes the error that quotes a packet made by this file.
func unreachable(source, dest string, quoted []byte) []byte {
	kind := uint8(layers.ICMPv4TypeDestinationUnreachable)
	proto := icmpProto(source)
	if proto == protoICMPv6 {
		kind = layers.ICMPv6TypeDestinationUnreachable
	}
	return newFrame(source, dest, proto, append(icmpHeader(kind, 1, 0), quoted[14:]...)).bytes()
}

// arp makes a request of the sender for the target.
func arp(sender, target string) []byte {
	request := packet.Bytes(&layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: senderMAC[:], SourceProtAddress: netip.MustParseAddr(sender).AsSlice(),
		DstHwAddress: make(net.HardwareAddr, 6), DstProtAddress: netip.MustParseAddr(target).AsSlice(),
	})
	return append(ethernet(senderMAC, uint16(layers.EthernetTypeARP)), request...)
}

// neighbour makes a message of neighbour discovery about a target.
func neighbour(source, dest string, kind uint8, target string, hops uint8) []byte {
	payload := packet.Bytes(
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)},
		&layers.ICMPv6NeighborSolicitation{TargetAddress: netip.MustParseAddr(target).AsSlice()})
	f := newFrame(source, dest, protoICMPv6, payload)
	f.hops = hops
	return f.bytes()
}

package bpf

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// frame is a packet in the making: tests change its parts before they take its bytes.
type frame struct {
	source, dest netip.Addr
	proto        uint8
	payload      []byte // from the transport header on

	mac        [6]byte // of the sender
	tags       []uint16
	hops       uint8
	options    []byte // IPv4, a multiple of 4
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
		mac: [6]byte{2, 0, 0, 0, 0, 1}, hops: 64, id: 7,
	}
}

func (f *frame) bytes() []byte {
	kind, network := uint16(0x0800), f.ipv4()
	if !f.source.Is4() {
		kind, network = 0x86dd, f.ipv6()
	}
	return slices.Concat(ethernet(f.mac, kind, f.tags...), network, f.payload)
}

func ethernet(mac [6]byte, kind uint16, tags ...uint16) []byte {
	b := append([]byte{2, 0, 0, 0, 0, 2}, mac[:]...)
	for _, tag := range tags {
		b = append16(b, 0x8100, tag)
	}
	return append16(b, kind)
}

func append16(b []byte, values ...uint16) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func (f *frame) ipv4() []byte {
	header := 20 + len(f.options)
	b := []byte{0x40 | byte(header/4), 0}
	offset := f.offset
	if f.more {
		offset |= 0x2000
	}
	b = append16(b, uint16(header+len(f.payload)+f.totalDelta), uint16(f.id), offset)
	b = append(b, f.hops, f.proto, 0, 0)
	b = append(b, f.source.AsSlice()...)
	b = append(b, f.dest.AsSlice()...)
	return append(b, f.options...)
}

func (f *frame) ipv6() []byte {
	first := f.proto
	if f.headers != nil {
		first = f.first
	}
	b := []byte{0x60, 0, 0, 0}
	b = append16(b, uint16(len(f.headers)+len(f.payload)+f.totalDelta))
	b = append(b, first, f.hops)
	b = append(b, as16(f.source)...)
	b = append(b, as16(f.dest)...)
	return append(b, f.headers...)
}

func as16(a netip.Addr) []byte { b := a.As16(); return b[:] }

func udpHeader(sport, dport uint16) []byte {
	return append(append16(nil, sport, dport, 13, 0), "hello"...)
}

// udp makes a datagram.
func udp(source, dest string, sport, dport uint16) []byte {
	return newFrame(source, dest, 17, udpHeader(sport, dport)).bytes()
}

// tcpHeader makes a segment; flags are letters of F, S, R, A.
func tcpHeader(sport, dport uint16, flags string, seq, ack uint32) []byte {
	var bits byte
	for _, f := range flags {
		bits |= map[rune]byte{'F': 1, 'S': 2, 'R': 4, 'A': 16}[f]
	}
	b := append16(nil, sport, dport)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, 5<<4, bits)
	return append16(b, 1000, 0, 0)
}

func tcp(source, dest string, sport, dport uint16, flags string, seq, ack uint32) []byte {
	return newFrame(source, dest, 6, tcpHeader(sport, dport, flags, seq, ack)).bytes()
}

func icmpProto(addr string) uint8 {
	if netip.MustParseAddr(addr).Is4() {
		return 1
	}
	return 58
}

func icmpHeader(kind, code uint8, id uint16) []byte {
	return append16([]byte{kind, code, 0, 0}, id, 1)
}

// echo makes a ping or the answer to one.
func echo(source, dest string, answer bool, id uint16) []byte {
	kind := map[bool]uint8{false: 8, true: 0}[answer]
	proto := icmpProto(source)
	if proto == 58 {
		kind = map[bool]uint8{false: 128, true: 129}[answer]
	}
	return newFrame(source, dest, proto, icmpHeader(kind, 0, id)).bytes()
}

// unreachable makes the error that quotes a packet made by this file.
func unreachable(source, dest string, quoted []byte) []byte {
	kind := uint8(3)
	proto := icmpProto(source)
	if proto == 58 {
		kind = 1
	}
	return newFrame(source, dest, proto, append(icmpHeader(kind, 1, 0), quoted[14:]...)).bytes()
}

// arp makes a request of the sender for the target.
func arp(sender, target string) []byte {
	b := ethernet([6]byte{2, 0, 0, 0, 0, 1}, 0x0806)
	b = append16(b, 1, 0x0800, 0x0604, 1)
	b = append(b, 2, 0, 0, 0, 0, 1)
	b = append(b, netip.MustParseAddr(sender).AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, netip.MustParseAddr(target).AsSlice()...)
}

// neighbour makes a message of neighbour discovery about a target.
func neighbour(source, dest string, kind uint8, target string, hops uint8) []byte {
	payload := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr(target).AsSlice()...)
	f := newFrame(source, dest, 58, payload)
	f.hops = hops
	return f.bytes()
}

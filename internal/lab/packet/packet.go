// Package packet builds packets for tests, from the layers of gopacket. No program links it.
package packet

import (
	"encoding/binary"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Bytes returns layers one behind the other, as they are: lengths and checksums that the layers have wrong stay wrong.
func Bytes(parts ...gopacket.SerializableLayer) []byte {
	return serialize(gopacket.SerializeOptions{}, parts...)
}

func serialize(options gopacket.SerializeOptions, parts ...gopacket.SerializableLayer) []byte {
	buffer, length := gopacket.NewSerializeBuffer(), 0
	for _, part := range slices.Backward(parts) {
		if err := part.SerializeTo(buffer, options); err != nil {
			panic(err) // the test asks for what no packet can be
		}
		if _, is := part.(*layers.Ethernet); is {
			length += ethernetLength
		} else {
			length = len(buffer.Bytes())
		}
	}
	return buffer.Bytes()[:length] // gopacket pads Ethernet frames, as a network card does
}

const ethernetLength = 14

// Sealed returns a frame with the checksums that it should have: that of an IPv4 header, and that of TCP, UDP or ICMP. The
// kernel looks at those of packets that it keeps. The frame has no tags and no extension headers, and its lengths are right.
func Sealed(frame []byte) []byte {
	ethernet, ip, protocol, rest := parse(frame)
	transport := map[layers.IPProtocol]interface {
		gopacket.SerializableLayer
		gopacket.DecodingLayer
	}{
		layers.IPProtocolTCP: &layers.TCP{}, layers.IPProtocolUDP: &layers.UDP{},
		layers.IPProtocolICMPv4: &layers.ICMPv4{}, layers.IPProtocolICMPv6: &layers.ICMPv6{},
	}[protocol]
	decode(transport, rest)
	if over, ok := transport.(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		if err := over.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)); err != nil {
			panic(err)
		}
	}
	return serialize(gopacket.SerializeOptions{ComputeChecksums: true}, ethernet, ip, transport, gopacket.Payload(transport.LayerPayload()))
}

// Fitted returns a frame to which something was appended, with the IP header that it then should have. What is behind that
// header stays as it is.
func Fitted(frame []byte) []byte {
	if binary.BigEndian.Uint16(frame[12:]) == uint16(layers.EthernetTypeIPv4) {
		binary.BigEndian.PutUint16(frame[16:], uint16(len(frame)-ethernetLength))
	} else {
		binary.BigEndian.PutUint16(frame[18:], uint16(len(frame)-ethernetLength-40))
	}
	ethernet, ip, _, rest := parse(frame)
	return serialize(gopacket.SerializeOptions{ComputeChecksums: true}, ethernet, ip, gopacket.Payload(rest))
}

// parse takes a frame apart, up to what is behind its IP header.
func parse(frame []byte) (_ *layers.Ethernet, ip gopacket.SerializableLayer, protocol layers.IPProtocol, rest []byte) {
	var ethernet layers.Ethernet
	decode(&ethernet, frame)
	if ethernet.EthernetType == layers.EthernetTypeIPv4 {
		var header layers.IPv4
		decode(&header, ethernet.Payload)
		return &ethernet, &header, header.Protocol, header.Payload
	}
	var header layers.IPv6
	decode(&header, ethernet.Payload)
	return &ethernet, &header, header.NextHeader, header.Payload
}

func decode(layer gopacket.DecodingLayer, data []byte) {
	if err := layer.DecodeFromBytes(data, gopacket.NilDecodeFeedback); err != nil {
		panic(err) // the frame was made by the test
	}
}

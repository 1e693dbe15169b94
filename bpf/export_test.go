package bpf

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
)

// TracedGeneration loads a generation for a test of package bpf_test. Its connections expire at once, so that each
// packet is judged as the first.
func TracedGeneration(t testing.TB, sizes Sizes) *Generation {
	t.Helper()
	r := newRigOf(t, sizes, SharedSizes{Flows: 16, NewFlows: 1024})
	for i := range r.shared.Settings.Timeout {
		r.shared.Settings.Timeout[i] = math.MaxUint64
	}
	r.shared.Settings.LogLevel = LogRules
	return r.Generation
}

// Frame makes a packet that has what a rule can see.
func Frame(source, dest netip.Addr, proto uint8, sport, dport uint16, icmpType, icmpCode uint8) []byte {
	f := &frame{source: source, dest: dest, proto: proto, mac: [6]byte{2, 0, 0, 0, 0, 1}, hops: 64, id: 7}
	f.payload = make([]byte, 20)
	switch proto {
	case 6:
		f.payload[12], f.payload[13] = 5<<4, 2
		fallthrough
	case 17, 132, 136:
		binary.BigEndian.PutUint16(f.payload, sport)
		binary.BigEndian.PutUint16(f.payload[2:], dport)
	case protoICMP, protoICMPv6:
		f.payload[0], f.payload[1] = icmpType, icmpCode
	}
	return f.bytes()
}

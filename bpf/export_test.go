package bpf

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/internal/lab"
)

// NoNextHeader is the protocol of a packet of IPv6 that ends with its extension headers.
const NoNextHeader = 59

// TracedGeneration loads a generation for a test of package bpf_test, in a network namespace with one interface, whose
// index it returns. The host there has no addresses and forwards what may be forwarded. Connections expire at once, so
// that each packet is judged as the first.
func TracedGeneration(t testing.TB, sizes Sizes) (g *Generation, ifindex uint32) {
	t.Helper()
	dir := pinDir(t)
	on := lab.Enter(t)
	on.Forward()
	on.RemoveAddress("lo", "127.0.0.1/8")
	on.Down("lo")
	ifindex = veth(on, "up")
	on.Route("0.0.0.0/0", "up")
	on.Route("::/0", "up")
	r := newRigIn(t, dir, sizes, SharedSizes{Flows: 16, NewFlows: 1024})
	for i := range r.shared.Settings.Timeout {
		r.shared.Settings.Timeout[i] = math.MaxUint64
	}
	r.shared.Settings.LogLevel = layout.LogRules
	return r.Generation, ifindex
}

// Frame makes a packet with all fields that a rule can match. Nothing follows an IPv6 extension header.
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
	case 0, 43, 44, 51, 60:
		if source.Is6() {
			f.first, f.proto, f.headers = proto, NoNextHeader, []byte{NoNextHeader, 0, 0, 0, 0, 0, 0, 0}
		}
	}
	return f.bytes()
}

package bpf

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/dataplane/gate"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/packet"
	"github.com/margay-project/margay/internal/skip"
)

// trackConnections makes the kernel track connections of both families in the namespace, as any rule about the state
// of a connection does. From then on the kernel reassembles every fragmented packet that it forwards.
func trackConnections(t *testing.T) {
	t.Helper()
	conn, err := nftables.New()
	must(t, err)
	table := conn.AddTable(&nftables.Table{Name: "stateful", Family: nftables.TableFamilyINet})
	chain := conn.AddChain(&nftables.Chain{
		Table: table, Name: "any", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityFilter,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
	}})
	must(t, conn.Flush())
}

// unevenFragments are two fragments of one datagram of which only the first has destination options. Reassembled, they
// fit no buffer of their own any more, and the kernel copies forwarded packets into new ones.
func unevenFragments(source, dest string, proto uint8, header []byte, id uint32) (first, second []byte) {
	payload := append(header, bytes.Repeat([]byte("smuggled"), 200)...)
	payload = payload[:72+1344]
	if proto == 17 {
		binary.BigEndian.PutUint16(payload[4:], uint16(len(payload)))
	}
	payload = packet.Sealed(newFrame(source, dest, proto, payload).bytes())[54:]
	fragment := func(next uint8, offset, more uint16) []byte {
		return binary.BigEndian.AppendUint32(append16([]byte{next, 0}, offset<<3|more), id)
	}
	options := append([]byte{44, 24, 1, 196}, make([]byte, 196)...)
	f := newFrame(source, dest, proto, payload[:72])
	f.first, f.headers = 60, append(options, fragment(proto, 0, 1)...)
	first = f.bytes()
	f = newFrame(source, dest, proto, payload[72:])
	f.first, f.headers = 44, fragment(proto, 9, 0)
	return first, f.bytes()
}

// attached attaches the generation to interfaces for as long as the test runs.
func (r *router) attached(t *testing.T, interfaces ...uint32) {
	t.Helper()
	for _, ifindex := range interfaces {
		at, err := r.Attach(r.dir, ifindex)
		must(t, err)
		t.Cleanup(func() { must(t, at.Detach()) })
	}
}

// only makes a mask that allows datagrams to one port and denies the rest.
func (r *rig) only(port uint32) uint32 {
	return r.mask(rule{id: 1, action: layout.ActionAllow, service: layout.ServiceUDP + port + 1}, rule{id: 2, action: layout.ActionDeny})
}

func TestReassembledPacketsAreNotBornHere(t *testing.T) {
	r := newRouter(t)
	a := r.wire(t, "v1", alice, alice6)
	c := r.wire(t, "v2", carol, carol6)
	b := r.wire(t, "up", bob, bob6)
	trackConnections(t)
	r.workload(r.v1, 5, r.only(7000), r.allowAll(), alice6)
	r.workload(r.v2, 6, r.denyAll(), r.allowAll(), carol6)
	r.attached(t, r.v1, r.v2)
	id := uint32(100)
	for name, from := range map[string]struct {
		source string
		*lab.Wire
	}{"another workload": {carol6, c}, "outside": {bob6, b}, "outside, in the host's name": {here6, b}} {
		for _, proto := range []uint8{6, 17} {
			header := map[uint8][]byte{6: tcpHeader(900, 22, "S", 1, 0), 17: udpHeader(900, 22)}[proto]
			id++
			first, second := unevenFragments(from.source, alice6, proto, header, id)
			from.Send(first, second)
			from.Send(newFrame(from.source, alice6, 17, append(append16(nil, 900, 7000, 11, 0), "end"...)).bytes())
			for _, frame := range a.Until("end") {
				if bytes.Contains(frame, []byte("smuggled")) || binary.BigEndian.Uint16(frame[12:]) == 0x86dd && frame[20] == 44 {
					t.Errorf("protocol %d from %s: arrived in spite of policy: %x", proto, name, frame[:80])
				}
			}
		}
	}
	// Policy that allows it lets both fragments through.
	first, second := unevenFragments(bob6, alice6, 17, udpHeader(900, 7000), 99)
	b.Send(first, second)
	b.Send(newFrame(bob6, alice6, 17, append(append16(nil, 901, 7000, 11, 0), "end"...)).bytes())
	fragments := 0
	for _, frame := range a.Until("end") {
		if binary.BigEndian.Uint16(frame[12:]) == 0x86dd && (frame[20] == 44 || frame[20] == 60) {
			fragments++
		}
	}
	if fragments < 2 {
		t.Errorf("%d fragments of an allowed datagram arrived, want all", fragments)
	}
}

func TestReassembledPacketsThroughAHostEndpointAreForwarded(t *testing.T) {
	r := newRouter(t)
	a := r.wire(t, "v1", alice, alice6)
	b := r.wire(t, "up", bob, bob6)
	trackConnections(t)
	r.workload(r.v1, 5, r.denyAll(), r.allowAll(), alice6)
	allow, deny := r.allowAll(), r.denyAll()
	end := newFrame(alice6, bob6, 17, append(append16(nil, 901, 53, 11, 0), "end"...)).bytes()
	r.attached(t, r.v1, r.up)
	for i, c := range []struct {
		name             string
		normal, forward  uint32
		want, identifier int
	}{
		{"forwarding is allowed, sending is not", deny, allow, 2, 200},
		{"sending is allowed, forwarding is not", allow, r.only(53), 0, 201},
	} {
		r.host(r.up, map[int]uint32{layout.StageNormalIn: deny, layout.StageNormalOut: c.normal, layout.StageForwardOut: c.forward})
		r.shared.AdvanceEpoch()
		first, second := unevenFragments(alice6, bob6, 17, udpHeader(uint16(910+i), 22), uint32(c.identifier))
		a.Send(first, second, end)
		arrived := 0
		for _, frame := range b.Until("end") {
			if bytes.Contains(frame, []byte("smuggled")) {
				arrived++
			}
		}
		if arrived != c.want {
			t.Errorf("%s: %d fragments arrived, want %d", c.name, arrived, c.want)
		}
	}
}

const (
	dave  = "198.51.100.5" // packets of the host to it leave by up2; its own come by up
	dave6 = "2001:db8:7::5"
)

// sender is a host endpoint that lets packets of this host out, and no forwarded ones. Requests come by another
// interface, where nothing is judged, so that no answer passes as part of a connection.
type sender struct {
	*router
	requests *lab.Wire // to the host
	arrivals *lab.Wire // from the host
}

func newSender(t *testing.T) *sender {
	r := newRouter(t)
	s := &sender{router: r, requests: r.wire(t, "up", bob, bob6), arrivals: r.wire(t, "up2", dave, dave6)}
	r.on.Route(dave+"/32", "up2")
	r.on.Route(dave6+"/128", "up2")
	for _, name := range []string{"all", "up"} {
		must(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/rp_filter", []byte("0"), 0o644))
	}
	r.host(r.up2, map[int]uint32{layout.StageNormalOut: r.allowAll(), layout.StageForwardOut: r.denyAll()})
	r.attached(t, r.up2)
	return s
}

// arrives says whether a frame that fits is among those that arrive when do is done.
func (s *sender) arrives(t *testing.T, do func(), fits func(f []byte) bool) bool {
	t.Helper()
	do()
	c, err := net.Dial("udp", net.JoinHostPort(dave, "9"))
	must(t, err)
	_, err = c.Write([]byte("end"))
	must(t, err)
	must(t, c.Close())
	return slices.ContainsFunc(s.arrivals.Until("end"), fits)
}

// protocol finds frames of a protocol by the byte at an offset from the transport header.
func protocol(proto uint8, at int, values ...byte) func(f []byte) bool {
	return func(f []byte) bool {
		switch {
		case len(f) < 34:
			return false
		case binary.BigEndian.Uint16(f[12:]) == 0x0800:
			header := 14 + int(f[14]&15)*4
			return f[23] == proto && bytes.Contains(f[header+at:header+at+1], values[:1])
		case binary.BigEndian.Uint16(f[12:]) == 0x86dd:
			return f[20] == proto && bytes.Contains(f[54+at:54+at+1], values[:1])
		}
		return false
	}
}

// TestASocketProvesThatThisHostSendsAPacket has this host send packets of every kind that has a socket.
func TestASocketProvesThatThisHostSendsAPacket(t *testing.T) {
	s := newSender(t)
	s.shared.Settings.HostMark = 0 // no gate: sockets are the only proof
	trackConnections(t)            // the kernel then also reassembles packets that it sends, and fragments them again
	datagram := bytes.Repeat([]byte("datagram"), 500)
	for _, f := range []struct {
		peer, here string
		icmp       uint8
		answer     byte
		closed     byte // destination unreachable
		expired    byte
	}{{dave, here, 1, 0, 3, 11}, {dave6, here6, 58, 129, 1, 3}} {
		dial := func(network, port string, payload []byte) {
			c, err := (&net.Dialer{Timeout: 50 * time.Millisecond}).Dial(network, net.JoinHostPort(f.peer, port))
			if err != nil {
				return
			}
			_, err = c.Write(payload)
			must(t, err)
			must(t, c.Close())
		}
		l, err := net.Listen("tcp", net.JoinHostPort(f.here, "34"))
		must(t, err)
		defer l.Close()
		expiring := newFrame(f.peer, alice, 17, udpHeader(1, 2))
		if f.icmp == 58 {
			expiring = newFrame(f.peer, alice6, 17, udpHeader(1, 2))
		}
		expiring.hops = 1
		for _, c := range []struct {
			name string
			do   func()
			fits func(f []byte) bool
		}{
			{"datagram in fragments", func() { dial("udp", "9", datagram) }, func(f []byte) bool { return bytes.Contains(f, datagram[:64]) }},
			{"SYN", func() { dial("tcp", "9", nil) }, protocol(6, 13, 2)},
			{"SYN-ACK", func() { s.requests.Send(packet.Sealed(tcp(f.peer, f.here, 33, 34, "S", 5, 0))) }, protocol(6, 13, 0x12)},
			{"RST", func() { s.requests.Send(packet.Sealed(tcp(f.peer, f.here, 33, 35, "S", 5, 0))) }, protocol(6, 13, 0x14)},
			{"echo reply", func() { s.requests.Send(packet.Sealed(echo(f.peer, f.here, false, 4))) }, protocol(f.icmp, 0, f.answer)},
			{"port unreachable", func() { s.requests.Send(packet.Sealed(udp(f.peer, f.here, 33, 36))) }, protocol(f.icmp, 0, f.closed)},
			{"hop limit exceeded", func() { s.requests.Send(packet.Sealed(expiring.bytes())) }, protocol(f.icmp, 0, f.expired)},
		} {
			if c.name == "RST" && f.icmp == 58 {
				continue // it has no socket, see below
			}
			if !s.arrives(t, c.do, c.fits) {
				t.Errorf("%s to %s was not taken for a packet of this host", c.name, f.peer)
			}
		}
	}
}

// rejectByReset has the kernel's packet filter answer segments to a port of the host with RST.
func rejectByReset(t *testing.T, port uint16) {
	t.Helper()
	conn, err := nftables.New()
	must(t, err)
	table := conn.AddTable(&nftables.Table{Name: "reject", Family: nftables.TableFamilyINet})
	chain := conn.AddChain(&nftables.Chain{
		Table: table, Name: "input", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append16(nil, port)},
		&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
	}})
	must(t, conn.Flush())
}

// TestTheMarkOfTheGateProvesThatThisHostSendsAPacket has this host send packets that belong to no socket.
func TestTheMarkOfTheGateProvesThatThisHostSendsAPacket(t *testing.T) {
	s := newSender(t)
	trackConnections(t)
	rejectByReset(t, 38)
	must(t, os.WriteFile("/proc/sys/net/ipv4/tcp_syncookies", []byte("2"), 0o644)) // always, not only under attack
	var g gate.Gate
	must(t, g.Apply(gate.Rules{Mark: 0x1000000, HostMark: s.shared.Settings.HostMark}))
	type kind struct {
		name string
		do   func()
		fits func(f []byte) bool
	}
	var kinds []kind
	for _, f := range []struct{ peer, here string }{{dave, here}, {dave6, here6}} {
		l, err := net.Listen("tcp", net.JoinHostPort(f.here, "34"))
		must(t, err)
		defer l.Close()
		syn := func(port uint16) func() {
			return func() { s.requests.Send(packet.Sealed(tcp(f.peer, f.here, 33, port, "S", 5, 0))) }
		}
		kinds = append(kinds,
			kind{"RST to " + f.peer, syn(35), protocol(6, 13, 0x14)},
			kind{"RST of the packet filter to " + f.peer, syn(38), protocol(6, 13, 0x14)},
			kind{"SYN-ACK with a cookie to " + f.peer, syn(34), protocol(6, 13, 0x12)})
	}
	for _, k := range kinds {
		if !s.arrives(t, k.do, k.fits) {
			t.Errorf("%s was not taken for a packet of this host", k.name)
		}
	}
	c, err := net.ListenMulticastUDP("udp4", &net.Interface{Index: int(s.up2), Name: "up2"}, &net.UDPAddr{IP: net.IPv4(239, 1, 2, 3), Port: 39})
	must(t, err)
	defer c.Close()
	s.arrivals.Await("a multicast report", protocol(2, 0, 0x22)) // the kernel takes its time
}

// TestForwardedPacketsDoNotKeepTheMarkOfThisHost has another rule give forwarded packets the mark, as one that restores
// the mark of a connection may, while the kernel forgets by which interface they came.
func TestForwardedPacketsDoNotKeepTheMarkOfThisHost(t *testing.T) {
	r := newRouter(t)
	a := r.wire(t, "v1", alice, alice6)
	b := r.wire(t, "up", bob, bob6)
	trackConnections(t)
	var g gate.Gate
	must(t, g.Apply(gate.Rules{Mark: 0x1000000, HostMark: r.shared.Settings.HostMark}))
	conn, err := nftables.New()
	must(t, err)
	table := conn.AddTable(&nftables.Table{Name: "marks", Family: nftables.TableFamilyINet})
	chain := conn.AddChain(&nftables.Chain{
		Table: table, Name: "all", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{255, 255, 255, 255}},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}})
	must(t, conn.Flush())
	r.workload(r.v1, 5, r.only(7000), r.allowAll(), alice6)
	r.attached(t, r.v1)
	first, second := unevenFragments(bob6, alice6, 17, udpHeader(900, 22), 1)
	b.Send(first, second, newFrame(bob6, alice6, 17, append(append16(nil, 900, 7000, 11, 0), "end"...)).bytes())
	for _, frame := range a.Until("end") {
		if bytes.Contains(frame, []byte("smuggled")) {
			t.Errorf("arrived in spite of policy: %x", frame[:80])
		}
	}
}

// TestBridgedPacketsAreNotBornHere sends fragments through a bridge whose packets the packet filter sees:
// the kernel reassembles and divides them there, too, and leaves them the socket of their sender.
func TestBridgedPacketsAreNotBornHere(t *testing.T) {
	r := newRouter(t)
	bridge := r.on.Bridge("br0")
	a := r.wire(t, "v1", alice, alice6)
	c := r.wire(t, "v2", carol, carol6)
	for _, name := range []string{"v1", "v2"} {
		r.on.Join(name, bridge)
	}
	trackConnections(t)
	if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-ip6tables", []byte("1"), 0o644); err != nil {
		skip.For(t, "this kernel does not show bridged packets to the packet filter: %v", err)
	}
	r.workload(r.v1, 5, r.only(7000), r.allowAll(), alice6)
	r.attached(t, r.v1)
	first, second := unevenFragments(carol6, alice6, 17, udpHeader(900, 22), 1)
	c.To = a.MAC
	c.Send(first, second, newFrame(carol6, alice6, 17, append(append16(nil, 900, 7000, 11, 0), "end"...)).bytes())
	for _, frame := range a.Until("end") {
		if bytes.Contains(frame, []byte("smuggled")) {
			t.Errorf("arrived in spite of policy: %x", frame[:80])
		}
	}
}

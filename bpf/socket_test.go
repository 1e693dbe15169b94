package bpf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/internal/lab"
)

// busyHost is a router with a machine behind its uplink and another behind its first workload interface, and policy
// for connections in one direction only.
type busyHost struct {
	*router
	bob, alice *lab.Host
}

func newBusyHost(t *testing.T) *busyHost {
	r := newRouter(t)
	return &busyHost{r, r.behind(t, "up", bob, bob6), r.behind(t, "v1", alice, alice6)}
}

// session is a connection of the host that began before its packets were judged.
type session struct {
	conn, far   net.Conn
	here, there netip.AddrPort
}

func (s *session) close() { s.conn.Close(); s.far.Close() }

func sessionOf(t *testing.T, conn, far net.Conn) *session {
	t.Helper()
	s := &session{conn: conn, far: far}
	s.here, s.there = endAt(conn.LocalAddr()), endAt(conn.RemoteAddr())
	t.Cleanup(s.close)
	return s
}

func endAt(a net.Addr) netip.AddrPort {
	at := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// opened connects the host to a machine that listens.
func (h *busyHost) opened(t *testing.T, m *lab.Host, there string) *session {
	t.Helper()
	l := m.Listen(net.JoinHostPort(there, "0"))
	conn, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
	must(t, err)
	far, err := l.Accept()
	must(t, err)
	return sessionOf(t, conn, far)
}

// accepted connects a machine to the host, that listens and goes on to listen, at every address of both families, as most
// servers do.
func (h *busyHost) accepted(t *testing.T, m *lab.Host, here string) *session {
	t.Helper()
	both := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		})
		return errors.Join(err, set)
	}}
	l, err := both.Listen(t.Context(), "tcp6", "[::]:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return acceptedBy(t, l, m, here)
}

// acceptedOnce connects a machine to the host, that listens at one address and then no longer.
func (h *busyHost) acceptedOnce(t *testing.T, m *lab.Host, here string) *session {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(here, "0"))
	must(t, err)
	defer l.Close()
	return acceptedBy(t, l, m, here)
}

func acceptedBy(t *testing.T, l net.Listener, m *lab.Host, here string) *session {
	t.Helper()
	port := l.Addr().(*net.TCPAddr).Port
	far, err := m.DialTimeout("tcp", net.JoinHostPort(here, strconv.Itoa(port)), 5*time.Second)
	must(t, err)
	conn, err := l.Accept()
	must(t, err)
	return sessionOf(t, conn, far)
}

// boundAndOpened connects the host to a machine that listens, from a port that the host's process has chosen itself.
func (h *busyHost) boundAndOpened(t *testing.T, m *lab.Host, here, there string) *session {
	t.Helper()
	l := m.Listen(net.JoinHostPort(there, "0"))
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(here), Port: 20_000}}
	conn, err := d.Dial("tcp", l.Addr().String())
	must(t, err)
	far, err := l.Accept()
	must(t, err)
	return sessionOf(t, conn, far)
}

// takenOver is a connection that a process of the host has taken over from another machine, with its place in the
// streams: its socket was neither accepted nor did it send a SYN.
func (h *busyHost) takenOver(t *testing.T, here, there string) *session {
	t.Helper()
	s := &session{
		here:  netip.AddrPortFrom(addr(here), 20_001),
		there: netip.AddrPortFrom(addr(there), 20_002),
	}
	family := unix.AF_INET
	if addr(here).Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { must(t, unix.Close(fd)) })
	must(t, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1))
	must(t, unix.Bind(fd, sockaddr(s.here)))
	must(t, unix.Connect(fd, sockaddr(s.there)))
	return s
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// arriving and leaving are packets in the middle of a session.
func (s *session) arriving() []byte {
	return tcp(s.there.Addr().String(), s.here.Addr().String(), s.there.Port(), s.here.Port(), "A", 7000, 9000)
}

func (s *session) leaving() []byte {
	return tcp(s.here.Addr().String(), s.there.Addr().String(), s.here.Port(), s.there.Port(), "A", 9000, 7000)
}

func TestSessionsOfABusyHostAreJudgedAsTheyWereOpened(t *testing.T) {
	h := newBusyHost(t)
	allow, deny := h.allowAll(), h.denyAll()
	for _, f := range []struct{ here, there string }{{here, bob}, {here6, bob6}} {
		opened, accepted := h.opened(t, h.bob, f.there), h.accepted(t, h.bob, f.here)
		once, bound := h.acceptedOnce(t, h.bob, f.here), h.boundAndOpened(t, h.bob, f.here, f.there)
		taken := h.takenOver(t, f.here, f.there)
		for _, c := range []struct {
			name    string
			s       *session
			in, out uint32
			want    Reason
			stage   int
		}{
			{"opened here, policy lets it out", opened, deny, allow, PassPolicy, layout.StageNormalOut},
			{"opened here, policy does not", opened, allow, deny, DropPolicy, layout.StageNormalOut},
			{"opened there, policy lets it in", accepted, allow, deny, PassPolicy, layout.StageNormalIn},
			{"opened there, policy does not", accepted, deny, allow, DropPolicy, layout.StageNormalIn},
			{"opened there, nobody listens, policy lets it in", once, allow, deny, PassPolicy, layout.StageNormalIn},
			{"opened there, nobody listens, policy does not", once, deny, allow, DropPolicy, layout.StageNormalIn},
			{"opened from a chosen port, policy lets it out", bound, deny, allow, PassPolicy, layout.StageNormalOut},
			{"opened from a chosen port, policy lets it in", bound, allow, deny, PassPolicy, layout.StageNormalIn},
			{"opened from a chosen port, policy lets it in and out", bound, allow, allow, PassPolicy, layout.StageNormalOut},
			{"opened from a chosen port, policy does neither", bound, deny, deny, DropPolicy, layout.StageNormalOut},
			{"taken over, policy lets it out", taken, deny, allow, PassPolicy, layout.StageNormalOut},
			{"taken over, policy lets it in", taken, allow, deny, PassPolicy, layout.StageNormalIn},
			{"taken over, policy does neither", taken, deny, deny, DropPolicy, layout.StageNormalOut},
		} {
			h.host(h.up, map[int]uint32{layout.StageNormalIn: c.in, layout.StageNormalOut: c.out, layout.StageForwardIn: deny, layout.StageForwardOut: deny})
			for name, first := range map[string]func() Outcome{
				"arriving": func() Outcome { return h.in(h.up, c.s.arriving()) },
				"leaving":  func() Outcome { return h.born(h.up, c.s.leaving()) },
			} {
				h.name = fmt.Sprintf("%s, %s, %s", c.name, f.there, name)
				h.forgetAll()
				o := first()
				h.want(o, c.want)
				if o.Stage != c.stage {
					t.Errorf("%s: judged at stage %d, want %d", h.name, o.Stage, c.stage)
				}
				if c.want != PassPolicy {
					continue
				}
				h.want(h.in(h.up, c.s.arriving()), PassFlow)
				h.want(h.born(h.up, c.s.leaving()), PassFlow)
				h.want(h.in(h.up, c.s.arriving()), PassFlow)
				opener := c.s.here
				if c.stage == layout.StageNormalIn {
					opener = c.s.there
				}
				if got := h.connection(); got.Opener != opener || got.State != layout.FlowTCPEstablished || !got.Proven {
					t.Errorf("%s: %+v, want it established and proven, opened by %v", h.name, got, opener)
				}
			}
		}
	}
}

func TestPacketsThatBelongToNoSocketAreJudgedAsNew(t *testing.T) {
	h := newBusyHost(t)
	allow, deny := h.allowAll(), h.denyAll()
	s := h.opened(t, h.bob, bob)
	h.accepted(t, h.bob, here)
	h.host(h.up, map[int]uint32{layout.StageNormalIn: deny, layout.StageNormalOut: allow, layout.StageForwardIn: deny, layout.StageForwardOut: deny})
	h.want(h.in(h.up, tcp(bob, here, s.there.Port(), s.here.Port()+1, "A", 1, 1)), DropPolicy)
	h.want(h.in(h.up, tcp("192.0.2.6", here, s.there.Port(), s.here.Port(), "A", 1, 1)), DropPolicy)
	h.want(h.in(h.up, tcp(bob, here, s.there.Port(), s.here.Port(), "S", 1, 0)), DropPolicy) // a SYN is always new
	h.want(h.in(h.up, tcp(bob, alice, s.there.Port(), s.here.Port(), "A", 1, 1)), DropPolicy)
	h.want(h.out(h.up, s.leaving()), DropPolicy) // forwarded, in the host's name
	if n := len(h.connections()); n != 0 {
		t.Errorf("%d connections, want none", n)
	}
}

func TestRevokedSessionDoesNotReturnByTheHostsOwnPackets(t *testing.T) {
	h := newBusyHost(t)
	allow, deny := h.allowAll(), h.denyAll()
	s := h.accepted(t, h.bob, here)
	h.host(h.up, map[int]uint32{layout.StageNormalIn: allow, layout.StageNormalOut: allow})
	h.want(h.in(h.up, s.arriving()), PassPolicy)
	h.host(h.up, map[int]uint32{layout.StageNormalIn: deny, layout.StageNormalOut: allow})
	h.shared.AdvanceEpoch()
	h.want(h.in(h.up, s.arriving()), DropRevoked)
	h.want(h.born(h.up, s.leaving()), DropRevoked)
	h.want(h.in(h.up, s.arriving()), DropRevoked)
}

func TestConnectedDatagramSocketsOfABusyHost(t *testing.T) {
	h := newBusyHost(t)
	allow, deny := h.allowAll(), h.denyAll()
	h.host(h.up, map[int]uint32{layout.StageNormalIn: deny, layout.StageNormalOut: allow, layout.StageForwardIn: deny, layout.StageForwardOut: deny})
	for _, there := range []string{bob, bob6} {
		conn, err := net.Dial("udp", net.JoinHostPort(there, "53"))
		must(t, err)
		defer conn.Close()
		local := netip.MustParseAddrPort(conn.LocalAddr().String())
		self := local.Addr().String()
		h.name = there
		h.want(h.in(h.up, udp(there, self, 54, local.Port())), DropPolicy)
		h.want(h.in(h.up, udp(there, self, 53, local.Port())), PassPolicy)
		if c := h.connection(); c.Opener != local || c.Approvals[1].Stage != layout.StageNormalOut {
			t.Errorf("%+v, want it opened by %v", c, local)
		}
		h.forgetAll()
	}
	// A server that waits for anybody has no connection.
	server, err := net.ListenPacket("udp", net.JoinHostPort(here, "0"))
	must(t, err)
	defer server.Close()
	h.want(h.in(h.up, udp(bob, here, 53, netip.MustParseAddrPort(server.LocalAddr().String()).Port())), DropPolicy)
}

// A server may connect a socket to each of its clients, and wait for no others: nothing tells who began.
func TestConnectedDatagramSocketsOfAServer(t *testing.T) {
	h := newBusyHost(t)
	allow, deny := h.allowAll(), h.denyAll()
	for _, ends := range [][2]string{{here, bob}, {here6, bob6}} {
		h.name = ends[1]
		at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr(ends[0]), 4433))
		conn, err := net.DialUDP("udp", at, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr(ends[1]), 5000)))
		must(t, err)
		defer conn.Close()
		arriving, leaving := udp(ends[1], ends[0], 5000, 4433), udp(ends[0], ends[1], 4433, 5000)
		policy := func(in, out uint32) {
			h.forgetAll()
			h.host(h.up, map[int]uint32{layout.StageNormalIn: in, layout.StageNormalOut: out, layout.StageForwardIn: deny, layout.StageForwardOut: deny})
		}
		policy(allow, deny)
		h.want(h.born(h.up, leaving), DropPolicy) // it may open a connection, and nothing may be opened here
		h.want(h.in(h.up, arriving), PassPolicy)
		if c := h.connection(); c.Opener.Addr() != addr(ends[1]) || c.Approvals[0].Stage != layout.StageNormalIn {
			t.Errorf("%+v, want it opened by %v", c, ends[1])
		}
		h.want(h.born(h.up, leaving), PassFlow)
		policy(deny, allow)
		h.want(h.in(h.up, arriving), PassPolicy)
		h.want(h.born(h.up, leaving), PassFlow)
		policy(deny, deny)
		h.want(h.in(h.up, arriving), DropPolicy)
		h.want(h.born(h.up, leaving), DropPolicy)
	}
}

func TestSessionsBetweenAHostAndItsWorkload(t *testing.T) {
	h := newBusyHost(t)
	opened := h.opened(t, h.alice, alice)
	i := h.workload(h.v1, 5, h.denyAll(), h.allowAll(), alice)
	h.want(h.in(h.v1, opened.arriving()), PassFromHost)
	h.want(h.born(h.v1, opened.leaving()), PassFlow)
	for name, accepted := range map[string]*session{
		"the host listens": h.accepted(t, h.alice, here), "nobody listens": h.acceptedOnce(t, h.alice, here),
	} {
		h.name = name
		h.forgetAll()
		h.iface(i)
		h.want(h.born(h.v1, accepted.leaving()), DropToHost)
		h.want(h.in(h.v1, accepted.arriving()), DropToHost)
		open := i
		open.Flags |= layout.IfaceToHost
		h.iface(open)
		h.want(h.born(h.v1, accepted.leaving()), PassPolicy)
		h.want(h.in(h.v1, accepted.arriving()), PassFlow)
		open.Mask[layout.StageNormalOut] = h.denyAll()
		h.iface(open)
		h.shared.AdvanceEpoch()
		h.want(h.born(h.v1, accepted.leaving()), DropRevoked)
	}
}

// TestSessionsLiveThroughAFirstStartAndALostTable lets real sockets speak through attached programs.
func TestSessionsLiveThroughAFirstStartAndALostTable(t *testing.T) {
	h := newBusyHost(t)
	opened, accepted := h.opened(t, h.bob, bob), h.accepted(t, h.bob, here6)
	deny := h.denyAll()
	service := uint32(accepted.here.Port()) + layout.ServiceTCP + 1
	h.host(h.up, map[int]uint32{
		layout.StageNormalIn:  h.mask(rule{id: 1, action: layout.ActionAllow, service: service}, rule{id: 2, action: layout.ActionDeny}),
		layout.StageNormalOut: h.mask(rule{id: 3, action: layout.ActionAllow, dest: bob}, rule{id: 4, action: layout.ActionDeny}),
		layout.StageForwardIn: deny, layout.StageForwardOut: deny,
	})
	at, err := h.Attach(h.dir, h.up)
	must(t, err)
	t.Cleanup(func() { must(t, at.Detach()) })
	for _, s := range []*session{opened, accepted} {
		transfer(t, s.far, s.conn, 1<<20)
		h.forgetAll()
		transfer(t, s.conn, s.far, 1<<20)
		h.forgetAll()
		transfer(t, s.far, s.conn, 1<<20)
	}
}

// TestPolicyForOneDirectionEndsNoSession lets real sockets speak under policy for the direction in which their
// connection was opened, and for no other.
func TestPolicyForOneDirectionEndsNoSession(t *testing.T) {
	h := newBusyHost(t)
	allow, deny := h.allowAll(), h.denyAll()
	h.host(h.up, nil)
	at, err := h.Attach(h.dir, h.up)
	must(t, err)
	t.Cleanup(func() { must(t, at.Detach()) })
	for _, f := range []struct{ here, there string }{{here, bob}, {here6, bob6}} {
		for _, c := range []struct {
			name    string
			s       *session
			in, out uint32
		}{
			{"accepted", h.accepted(t, h.bob, f.here), allow, deny},
			{"accepted, nobody listens", h.acceptedOnce(t, h.bob, f.here), allow, deny},
			{"opened", h.opened(t, h.bob, f.there), deny, allow},
			{"opened from a chosen port", h.boundAndOpened(t, h.bob, f.here, f.there), deny, allow},
		} {
			h.name = c.name
			h.host(h.up, map[int]uint32{layout.StageNormalIn: c.in, layout.StageNormalOut: c.out, layout.StageForwardIn: deny, layout.StageForwardOut: deny})
			for range 2 { // a first start, and a table that is lost
				h.forgetAll()
				transfer(t, c.s.conn, c.s.far, 1<<20)
				h.forgetAll()
				transfer(t, c.s.far, c.s.conn, 1<<20)
			}
		}
		h.host(h.up, nil) // for those that are to be opened
	}
}

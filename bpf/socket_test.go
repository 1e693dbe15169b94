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
)

// busyHost is a router with a machine behind its uplink and another behind its first workload interface, and policy
// for connections in one direction only.
type busyHost struct {
	*router
	bob, alice *machine
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
func (h *busyHost) opened(t *testing.T, m *machine, there string) *session {
	t.Helper()
	l := m.listen(t, net.JoinHostPort(there, "0"))
	conn, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
	must(t, err)
	far, err := l.Accept()
	must(t, err)
	return sessionOf(t, conn, far)
}

// accepted connects a machine to the host, that listens and goes on to listen.
func (h *busyHost) accepted(t *testing.T, m *machine, here string) *session {
	t.Helper()
	both := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		})
		return errors.Join(err, set)
	}}
	l, err := both.Listen(t.Context(), "tcp6", "[::]:0") // at every address of both families, as most servers do
	must(t, err)
	t.Cleanup(func() { l.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	far, err := m.dial(net.JoinHostPort(here, strconv.Itoa(port)), 5*time.Second)
	must(t, err)
	conn, err := l.Accept()
	must(t, err)
	return sessionOf(t, conn, far)
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
		for _, c := range []struct {
			name    string
			s       *session
			in, out uint32
			want    Reason
			stage   int
		}{
			{"opened here, policy lets it out", opened, deny, allow, PassPolicy, StageNormalOut},
			{"opened here, policy does not", opened, allow, deny, DropPolicy, StageNormalOut},
			{"opened there, policy lets it in", accepted, allow, deny, PassPolicy, StageNormalIn},
			{"opened there, policy does not", accepted, deny, allow, DropPolicy, StageNormalIn},
		} {
			h.host(h.up, map[int]uint32{StageNormalIn: c.in, StageNormalOut: c.out, StageForwardIn: deny, StageForwardOut: deny})
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
				if c.stage == StageNormalIn {
					opener = c.s.there
				}
				if got := h.connection(); got.Opener != opener || got.State != FlowTCPEstablished || !got.Proven {
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
	h.host(h.up, map[int]uint32{StageNormalIn: deny, StageNormalOut: allow, StageForwardIn: deny, StageForwardOut: deny})
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
	h.host(h.up, map[int]uint32{StageNormalIn: allow, StageNormalOut: allow})
	h.want(h.in(h.up, s.arriving()), PassPolicy)
	h.host(h.up, map[int]uint32{StageNormalIn: deny, StageNormalOut: allow})
	h.shared.AdvanceEpoch()
	h.want(h.in(h.up, s.arriving()), DropRevoked)
	h.want(h.born(h.up, s.leaving()), DropRevoked)
	h.want(h.in(h.up, s.arriving()), DropRevoked)
}

func TestConnectedDatagramSocketsOfABusyHost(t *testing.T) {
	h := newBusyHost(t)
	allow, deny := h.allowAll(), h.denyAll()
	h.host(h.up, map[int]uint32{StageNormalIn: deny, StageNormalOut: allow, StageForwardIn: deny, StageForwardOut: deny})
	for _, there := range []string{bob, bob6} {
		conn, err := net.Dial("udp", net.JoinHostPort(there, "53"))
		must(t, err)
		defer conn.Close()
		local := netip.MustParseAddrPort(conn.LocalAddr().String())
		self := local.Addr().String()
		h.name = there
		h.want(h.in(h.up, udp(there, self, 54, local.Port())), DropPolicy)
		h.want(h.in(h.up, udp(there, self, 53, local.Port())), PassPolicy)
		if c := h.connection(); c.Opener != local || c.Approvals[1].Stage != StageNormalOut {
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

func TestSessionsBetweenAHostAndItsWorkload(t *testing.T) {
	h := newBusyHost(t)
	opened, accepted := h.opened(t, h.alice, alice), h.accepted(t, h.alice, here)
	i := h.workload(h.v1, 5, h.denyAll(), h.allowAll(), alice)
	h.want(h.in(h.v1, opened.arriving()), PassFromHost)
	h.want(h.born(h.v1, opened.leaving()), PassFlow)
	h.forgetAll()
	h.want(h.born(h.v1, accepted.leaving()), DropToHost)
	h.want(h.in(h.v1, accepted.arriving()), DropToHost)
	i.Flags |= IfaceToHost
	h.iface(i)
	h.want(h.born(h.v1, accepted.leaving()), PassPolicy)
	h.want(h.in(h.v1, accepted.arriving()), PassFlow)
	i.Mask[StageNormalOut] = h.denyAll()
	h.iface(i)
	h.shared.AdvanceEpoch()
	h.want(h.born(h.v1, accepted.leaving()), DropRevoked)
}

// TestSessionsLiveThroughAFirstStartAndALostTable lets real sockets speak through attached programs.
func TestSessionsLiveThroughAFirstStartAndALostTable(t *testing.T) {
	h := newBusyHost(t)
	opened, accepted := h.opened(t, h.bob, bob), h.accepted(t, h.bob, here6)
	deny := h.denyAll()
	service := uint32(accepted.here.Port()) + ServiceTCP + 1
	h.host(h.up, map[int]uint32{
		StageNormalIn:  h.mask(rule{id: 1, action: ActionAllow, service: service}, rule{id: 2, action: ActionDeny}),
		StageNormalOut: h.mask(rule{id: 3, action: ActionAllow, dest: bob}, rule{id: 4, action: ActionDeny}),
		StageForwardIn: deny, StageForwardOut: deny,
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

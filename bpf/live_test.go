package bpf

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/internal/lab"
)

// behind moves the far end of an interface of the router to a host of its own. The near end gets an address, so that the
// host has a gateway.
func (r *router) behind(t testing.TB, name, address4, address6 string) *lab.Host {
	t.Helper()
	m := lab.NewHost(t)
	must(t, netlink.LinkSetNsFd(r.on.Link(name+"p"), int(m.Namespace())))
	r.on.ProxyARP(name)
	r.on.Up(name, "fe80::1/64")
	m.Up(name+"p", address4+"/32", address6+"/128")
	m.Route("0.0.0.0/0", name+"p")
	m.DefaultRoute(name+"p", "fe80::1")
	return m
}

// wire is the wire of a host behind an interface of the router.
func (r *router) wire(t testing.TB, name, address4, address6 string) *lab.Wire {
	t.Helper()
	return r.behind(t, name, address4, address6).Wire(name+"p", r.on.Link(name).Attrs().HardwareAddr)
}

// TestRealTraffic sends large segments through attached programs, and then withdraws the permission.
func TestRealTraffic(t *testing.T) {
	r := newRouter(t)
	a := r.behind(t, "v1", alice, alice6)
	c := r.behind(t, "v2", carol, carol6)
	allow, deny := r.allowAll(), r.denyAll()
	r.workload(r.v1, 5, deny, allow, alice, alice6)
	r.workload(r.v2, 6, allow, deny, carol, carol6)
	for _, ifindex := range []uint32{r.v1, r.v2} {
		at, err := r.Attach(r.dir, ifindex)
		must(t, err)
		t.Cleanup(func() { must(t, at.Detach()) })
	}
	for _, ends := range [][2]string{{alice, carol}, {alice6, carol6}} {
		l := c.Listen(net.JoinHostPort(ends[1], "5000"))
		conn, err := a.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
		must(t, err)
		far, err := l.Accept()
		must(t, err)
		transfer(t, conn, far, 32<<20)
		transfer(t, far, conn, 32<<20)
		for _, connection := range r.connections() {
			if connection.Opener.String() != conn.LocalAddr().String() {
				continue
			}
			if a := connection.Approvals[1]; a.Endpoint != 6 || !connection.Proven || a.Bytes[0] < 32<<20 || a.Bytes[1] < 32<<20 {
				t.Errorf("%+v did not carry what was sent", connection)
			}
		}

		if _, err := c.DialTimeout("tcp", net.JoinHostPort(ends[0], "5000"), 300*time.Millisecond); err == nil {
			t.Error("a connection was made that no policy allows")
		}
		r.workload(r.v1, 5, deny, deny)
		r.shared.AdvanceEpoch()
		_, err = conn.Write([]byte("still there?"))
		must(t, err)
		must(t, far.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
		if n, err := far.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d bytes after the permission was withdrawn, %v", n, err)
		}
		r.workload(r.v1, 5, deny, allow)
		r.shared.AdvanceEpoch()
		conn.Close()
		far.Close()
	}
}

func transfer(t *testing.T, from, to net.Conn, n int64) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	must(t, from.SetDeadline(deadline))
	must(t, to.SetDeadline(deadline))
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(from, zeros{}, n)
		sent <- err
	}()
	if got, err := io.CopyN(io.Discard, to, n); err != nil {
		t.Errorf("received %d of %d bytes: %v", got, n, err)
	}
	must(t, <-sent)
	must(t, from.SetDeadline(time.Time{}))
	must(t, to.SetDeadline(time.Time{}))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestAWorkloadLearnsOfASmallerMTU has a workload send datagrams of several fragments through a router behind the uplink
// whose next link takes less: they arrive once the router's error has.
func TestAWorkloadLearnsOfASmallerMTU(t *testing.T) {
	for _, tracked := range []bool{false, true} {
		r := newRouter(t)
		a, b := r.behind(t, "v1", alice, alice6), r.behind(t, "up", bob, bob6)
		if tracked {
			trackConnections(t)
		}
		const beyond = "2001:db8:5:77::5"
		must(t, netlink.RouteAdd(&netlink.Route{
			LinkIndex: int(r.up), Dst: netlink.NewIPNet(net.ParseIP(beyond)), Gw: net.ParseIP(bob6),
		}))
		arrivals := smallerLink(t, b, beyond)
		r.workload(r.v1, 5, r.denyAll(), r.allowAll(), alice, alice6)
		r.host(r.up, map[int]uint32{layout.StageForwardIn: r.denyAll(), layout.StageForwardOut: r.allowAll()})
		r.attached(t, r.v1, r.up)
		var conn net.Conn
		a.Must(func() (err error) {
			conn, err = net.Dial("udp", net.JoinHostPort(beyond, "9"))
			return err
		})
		t.Cleanup(func() { conn.Close() })
		offset := func(f []byte) int { // of a fragment, in bytes; -1 if it is none
			if len(f) < 62 || f[12] != 0x86 || f[20] != 44 {
				return -1
			}
			return int(binary.BigEndian.Uint16(f[56:]) &^ 7)
		}
		last := func(f []byte) bool { return offset(f) > 0 && f[57]&1 == 0 }
		sent, whole := 0, false
		for ; sent < 20 && !whole; sent++ {
			if _, err := conn.Write(make([]byte, 3000)); err != nil {
				continue // tells of an error of the network
			}
			// The last fragment is small enough for any link.
			whole = slices.ContainsFunc(arrivals.Await("a last fragment", last), func(f []byte) bool { return offset(f) == 0 })
		}
		if !whole {
			t.Errorf("connections tracked: %v: of %d datagrams none arrived", tracked, sent)
		}
	}
}

// smallerLink gives a host another link, with a host behind it, and a route that leads there. It returns the far end's wire.
func smallerLink(t testing.TB, b *lab.Host, dest string) *lab.Wire {
	t.Helper()
	beyond := lab.NewHost(t)
	lab.Cable(b, "next", beyond, "nextp")
	beyond.Up("nextp")
	next := b.Up("next")
	arrivals := beyond.Wire("nextp", next.Attrs().HardwareAddr)
	b.Sysctl("ipv6/conf/all/forwarding", "1")
	b.Must(func() error {
		return errors.Join(
			netlink.LinkSetMTU(next, 1300),
			netlink.RouteAdd(&netlink.Route{LinkIndex: next.Attrs().Index, Dst: netlink.NewIPNet(net.ParseIP(dest))}),
			netlink.NeighAdd(&netlink.Neigh{
				LinkIndex: next.Attrs().Index, IP: net.ParseIP(dest), HardwareAddr: arrivals.MAC, State: netlink.NUD_PERMANENT,
			}))
	})
	return arrivals
}

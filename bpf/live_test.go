package bpf

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf/layout"
)

// machine is a namespace behind one of the router's interfaces.
type machine struct {
	ns netns.NsHandle
}

// behind moves the far end of an interface of the router to a machine of its own. The near end gets an address, so
// that the machine has a gateway.
func (r *router) behind(t *testing.T, name, address4, address6 string) *machine {
	t.Helper()
	home, err := netns.Get()
	must(t, err)
	defer home.Close()
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	must(t, netns.Set(home))
	far, err := netlink.LinkByName(name + "p")
	must(t, err)
	must(t, netlink.LinkSetNsFd(far, int(ns)))
	must(t, os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/proxy_arp", []byte("1"), 0o644))
	must(t, os.WriteFile("/proc/sys/net/ipv4/neigh/"+name+"/proxy_delay", []byte("0"), 0o644))
	address(t, name, "fe80::1/64")
	must(t, netns.Set(ns))
	defer func() { must(t, netns.Set(home)) }()
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	address(t, name+"p", address4+"/32")
	address(t, name+"p", address6+"/128")
	l, err := netlink.LinkByName(name + "p")
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	_, all4, _ := parseCIDR("0.0.0.0/0")
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: all4, Scope: netlink.SCOPE_LINK, Src: net.ParseIP(address4)}))
	_, all6, _ := parseCIDR("::/0")
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: all6, Gw: net.ParseIP("fe80::1")}))
	return &machine{ns}
}

// do runs something on the machine, on a thread of its own.
func (m *machine) do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends here
		if err := netns.Set(m.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func (m *machine) listen(t *testing.T, at string) net.Listener {
	t.Helper()
	var l net.Listener
	must(t, m.do(func() (err error) {
		l, err = net.Listen("tcp", at)
		return err
	}))
	t.Cleanup(func() { l.Close() })
	return l
}

func (m *machine) dial(at string, patience time.Duration) (c net.Conn, err error) {
	err = m.do(func() error {
		c, err = net.DialTimeout("tcp", at, patience)
		return err
	})
	return c, err
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
		l := c.listen(t, net.JoinHostPort(ends[1], "5000"))
		conn, err := a.dial(l.Addr().String(), 5*time.Second)
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

		if _, err := c.dial(net.JoinHostPort(ends[0], "5000"), 300*time.Millisecond); err == nil {
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
		arrivals := &wire{t: t}
		must(t, b.do(func() error { return smallerLink(arrivals, beyond) }))
		t.Cleanup(func() { unix.Close(arrivals.fd) })
		r.workload(r.v1, 5, r.denyAll(), r.allowAll(), alice, alice6)
		r.host(r.up, map[int]uint32{layout.StageForwardIn: r.denyAll(), layout.StageForwardOut: r.allowAll()})
		r.attached(t, r.v1, r.up)
		var conn net.Conn
		must(t, a.do(func() (err error) {
			conn, err = net.Dial("udp", net.JoinHostPort(beyond, "9"))
			return err
		}))
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
			whole = slices.ContainsFunc(arrivals.await("a last fragment", last), func(f []byte) bool { return offset(f) == 0 })
		}
		if !whole {
			t.Errorf("connections tracked: %v: of %d datagrams none arrived", tracked, sent)
		}
	}
}

// smallerLink gives a machine another link, with a machine behind it, and a route that leads there.
func smallerLink(w *wire, dest string) error {
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	beyond, err := netns.New()
	if err != nil {
		return err
	}
	defer beyond.Close() // the socket keeps it
	if w.ifindex, w.far, err = linkUp("nextp", home); err != nil {
		return err
	}
	if w.fd, err = listenToFrames(w.ifindex); err != nil {
		return err
	}
	if err := netns.Set(home); err != nil {
		return err
	}
	next, err := netlink.LinkByName("next")
	if err != nil {
		return err
	}
	return errors.Join(
		netlink.LinkSetUp(next),
		os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644),
		netlink.RouteAdd(&netlink.Route{LinkIndex: next.Attrs().Index, Dst: netlink.NewIPNet(net.ParseIP(dest))}),
		netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: next.Attrs().Index, IP: net.ParseIP(dest), HardwareAddr: w.far, State: netlink.NUD_PERMANENT,
		}))
}

// linkUp makes a link with a small MTU from one namespace to the calling thread's, and takes its end there up.
func linkUp(name string, from netns.NsHandle) (int, net.HardwareAddr, error) {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "next", PeerMTU: 1300, PeerNamespace: netlink.NsFd(from)}
	if err := netlink.LinkAdd(veth); err != nil {
		return 0, nil, err
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0, nil, err
	}
	return l.Attrs().Index, l.Attrs().HardwareAddr, netlink.LinkSetUp(l)
}

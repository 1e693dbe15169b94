package bpf

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
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

package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/internal/skip"
)

// host is a network namespace in which a Driver runs, with virtual machines behind it. The test's goroutine is in it.
type host struct {
	*testing.T
	namespace netns.NsHandle
	pins      string
	log       *logrus.Entry
}

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.For(t, "needs root to load programs and make network namespaces")
	}
	runtime.LockOSThread()
	before, err := netns.Get()
	must(t, err)
	namespace, err := netns.New()
	must(t, err)
	t.Cleanup(func() {
		namespace.Close()
		if err := netns.Set(before); err == nil {
			runtime.UnlockOSThread() // else the thread ends with the goroutine
		}
		before.Close()
	})
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	if testing.Verbose() {
		logger.SetOutput(t.Output())
	}
	h := &host{T: t, namespace: namespace, log: logrus.NewEntry(logger)}
	h.pins = h.pinDir()
	setUp(t, "lo")
	return h
}

// pinDir is a directory in which a Driver may pin; it is removed with everything in it.
func (h *host) pinDir() string {
	h.Helper()
	dir := filepath.Join(h.TempDir(), "bpf")
	h.Cleanup(func() {
		pins, err := bpf.OpenPins(dir)
		must(h, err)
		must(h, pins.Remove())
	})
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func setUp(t testing.TB, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(link))
	return link
}

// in runs a function in a network namespace, on a thread of its own.
func in(namespace netns.NsHandle, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(namespace); err != nil {
			done <- err
			return
		}
		done <- do()
	}()
	return <-done
}

// vm is a virtual machine: a network namespace behind one interface of the host.
type vm struct {
	h         *host
	namespace netns.NsHandle
	iface     string // the host's side
	addresses []netip.Addr
}

// plug adds a virtual machine with these addresses, IPv4 first.
func (h *host) plug(iface string, addresses ...string) *vm {
	h.Helper()
	m := &vm{h: h, iface: iface}
	for _, a := range addresses {
		m.addresses = append(m.addresses, netip.MustParseAddr(a))
	}
	made := make(chan netns.NsHandle)
	go func() {
		runtime.LockOSThread()
		n, err := netns.New()
		if err != nil {
			n = -1
		}
		made <- n
	}()
	if m.namespace = <-made; m.namespace < 0 {
		h.Fatal("cannot make a network namespace")
	}
	h.Cleanup(func() { m.namespace.Close() })
	m.connect()
	return m
}

// connect makes the interface, as starting the virtual machine does.
func (m *vm) connect() {
	h := m.h
	h.Helper()
	must(h, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: m.iface}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(m.namespace)),
	}))
	noDAD(m.iface)
	setUp(h, m.iface)
	must(h, in(m.namespace, func() error {
		if lo, err := netlink.LinkByName("lo"); err == nil {
			if err := netlink.LinkSetUp(lo); err != nil {
				return err
			}
		}
		noDAD("eth0")
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(eth0); err != nil {
			return err
		}
		return m.configure(eth0)
	}))
	if len(m.addresses) > 1 {
		m.routeV6()
	}
}

// noDAD has IPv6 addresses usable at once: nobody else has them.
func noDAD(name string) {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0)
}

func (m *vm) configure(eth0 netlink.Link) error {
	for _, a := range m.addresses {
		address := &netlink.Addr{IPNet: netlink.NewIPNet(a.AsSlice())}
		if a.Is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(eth0, address); err != nil {
			return err
		}
	}
	index := eth0.Attrs().Index
	gateway := net.IPv4(169, 254, 1, 1)
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: netlink.NewIPNet(gateway)}); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gateway, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}})
}

// routeV6 makes the link-local address of the host's side the gateway, once it is there.
func (m *vm) routeV6() {
	h := m.h
	h.Helper()
	var gateway net.IP
	h.until("a link-local address", func() bool {
		link, err := netlink.LinkByName(m.iface)
		must(h, err)
		list, err := netlink.AddrList(link, netlink.FAMILY_V6)
		must(h, err)
		for _, a := range list {
			if a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				gateway = a.IP
			}
		}
		return gateway != nil
	})
	must(h, in(m.namespace, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		all := &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gateway, Dst: all})
	}))
}

// unplug removes the interface, as stopping the virtual machine does.
func (m *vm) unplug() {
	m.h.Helper()
	link, err := netlink.LinkByName(m.iface)
	must(m.h, err)
	must(m.h, netlink.LinkDel(link))
}

func (h *host) until(what string, is func() bool) {
	h.Helper()
	for deadline := time.Now().Add(longEnough); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatal("never came:", what)
		}
	}
}

// serve answers TCP and UDP on a port: what comes goes back.
func (m *vm) serve(port int) {
	m.h.Helper()
	must(m.h, in(m.namespace, func() error {
		listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		packets, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		m.h.Cleanup(func() { listener.Close(); packets.Close() })
		go func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(c, c); c.Close() }()
			}
		}()
		go func() {
			buffer := make([]byte, 2048)
			for {
				n, from, err := packets.ReadFrom(buffer)
				if err != nil {
					return
				}
				_, _ = packets.WriteTo(buffer[:n], from)
			}
		}()
		return nil
	}))
}

const patience = 150 * time.Millisecond

// dial opens a connection from the machine.
func (m *vm) dial(network string, to netip.Addr, port int) (c net.Conn, err error) {
	err = in(m.namespace, func() error {
		dialer := net.Dialer{Timeout: patience}
		c, err = dialer.DialContext(context.Background(), network, netip.AddrPortFrom(to, uint16(port)).String())
		return err
	})
	return c, err
}

// echo sends a word and reports whether it came back.
func echo(c net.Conn) bool { return echoWithin(c, longEnough) }

func echoWithin(c net.Conn, limit time.Duration) bool {
	word := []byte("hello")
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := c.Write(word); err != nil {
		return false
	}
	got := make([]byte, len(word))
	_, err := io.ReadFull(c, got)
	return err == nil && string(got) == string(word)
}

// reaches tries some times (the first packets may wait for ARP), and reports whether an answer came.
func (m *vm) reaches(network string, to netip.Addr, port int) bool {
	for range 10 {
		if m.reachesAtOnce(network, to, port) {
			return true
		}
	}
	return false
}

func (m *vm) reachesAtOnce(network string, to netip.Addr, port int) bool {
	c, err := m.dial(network, to, port)
	if err != nil {
		return false
	}
	defer c.Close()
	return echoWithin(c, patience) // where nothing may answer, all of it is waited for
}

// stream is a conversation that never pauses: a datagram every two milliseconds, each to be echoed.
type stream struct {
	conn           net.Conn
	stop           chan struct{}
	done           sync.WaitGroup
	sent, received atomic.Int64
}

func (m *vm) stream(to netip.Addr, port int) *stream {
	m.h.Helper()
	conn, err := m.dial("udp", to, port)
	must(m.h, err)
	s := &stream{conn: conn, stop: make(chan struct{})}
	s.done.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				if _, err := conn.Write([]byte{byte(s.sent.Load())}); err == nil {
					s.sent.Add(1)
				}
			}
		}
	})
	s.done.Go(func() {
		buffer := make([]byte, 16)
		for {
			if _, err := conn.Read(buffer); err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				continue
			}
			s.received.Add(1)
		}
	})
	m.h.until("the stream to flow", func() bool { return s.received.Load() > 5 })
	return s
}

// end stops the stream and returns how many were sent and lost since it flowed.
func (s *stream) end() (sent, lost int64) {
	close(s.stop)
	time.Sleep(50 * time.Millisecond)
	s.conn.Close()
	s.done.Wait()
	return s.sent.Load(), s.sent.Load() - s.received.Load()
}

package etcdlab

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/margay-project/margay/internal/skip"
)

// Port is a network namespace with a cable to the switch.
type Port struct {
	Address string // IPv4
	name    string
	ns      netns.NsHandle
}

// network is a switch with two halves. Everything is plugged into the first until it is split off.
type network struct {
	ns     netns.NsHandle
	handle *netlink.Handle
	halves [2]netlink.Link
}

// Clients use one network, members use another among themselves.
const (
	subnet, peerSubnet = "10.77.0.", "10.78.0."
	cable, peerCable   = "eth0", "peer0" // the names of a port's ends of its cables
)

func newNetwork(t testing.TB) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.For(t, "needs root, for network namespaces")
	}
	n := &network{ns: newNamespace(t)}
	var err error
	if n.handle, err = netlink.NewHandleAt(n.ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.handle.Close)
	for i := range n.halves {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("half%d", i)}}
		if err := n.handle.LinkAdd(bridge); err != nil {
			skip.For(t, "make a bridge: %v", err)
		}
		if err := n.handle.LinkSetUp(bridge); err != nil {
			t.Fatal(err)
		}
		n.halves[i] = bridge
	}
	return n
}

func newNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		ns, err = netns.New()
		made <- err
	}()
	if err := <-made; err != nil {
		skip.For(t, "make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// plug makes a port with the last number of its address.
func (n *network) plug(t testing.TB, name string, number int) Port {
	t.Helper()
	p := Port{Address: address(subnet, number), name: name, ns: newNamespace(t)}
	n.connect(t, p.ns, name, cable, p.Address)
	return p
}

func address(subnet string, number int) string { return fmt.Sprint(subnet, number) }

// connect lays a cable from the switch to a namespace.
func (n *network) connect(t testing.TB, ns netns.NsHandle, name, device, at string) {
	t.Helper()
	link := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, MasterIndex: n.halves[0].Attrs().Index},
		PeerName:  device, PeerNamespace: netlink.NsFd(int(ns)),
	}
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	addr, err := netlink.ParseAddr(at + "/24")
	if err == nil {
		err = n.handle.LinkAdd(link)
	}
	if err == nil {
		err = n.handle.LinkSetUp(link)
	}
	var end netlink.Link
	if err == nil {
		end, err = inside.LinkByName(device)
	}
	if err == nil {
		err = inside.AddrAdd(end, addr)
	}
	for _, up := range []string{"lo", device} {
		if err == nil {
			end, err = inside.LinkByName(up)
		}
		if err == nil {
			err = inside.LinkSetUp(end)
		}
	}
	if err != nil {
		t.Fatalf("connect %s: %v", name, err)
	}
}

// move plugs a port into a half of the switch.
func (n *network) move(t testing.TB, name string, half int) {
	t.Helper()
	link, err := n.handle.LinkByName(name)
	if err == nil {
		err = n.handle.LinkSetMaster(link, n.halves[half])
	}
	if err != nil {
		t.Fatalf("move %s: %v", name, err)
	}
}

// Dial connects from inside of the namespace.
func (p Port) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err = netns.Set(p.ns); err == nil {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		}
	}()
	<-done
	return conn, err
}

// Attach connects the network namespace of the calling thread, by a device that it makes there, as one more client.
func (c *Cluster) Attach(t testing.TB, device string) Port {
	t.Helper()
	ns, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	p := Port{Address: address(subnet, guestNumber), name: device, ns: ns}
	c.network.connect(t, ns, p.name, device, p.Address)
	c.guests = append(c.guests, p)
	return p
}

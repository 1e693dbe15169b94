package dataplane

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/packet"
)

// flooder sends one broadcast frame over and over by eth0 of a VM, whichever interface has that name at the moment, and counts the
// frames of another flooder that arrive.
type flooder struct {
	fd            int
	frame         []byte
	sent, arrived atomic.Int64
	ends          atomic.Bool
	running       sync.WaitGroup
}

const floodMark = "no policy allows this"

func (m *vm) flood(to netip.Addr) *flooder {
	m.h.Helper()
	f := &flooder{frame: packet.Sealed(packet.Bytes(
		&layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 1, m.Addresses[0].As4()[3]}, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, IHL: 5, Length: uint16(28 + len(floodMark)), TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: m.Addresses[0].AsSlice(), DstIP: to.AsSlice()},
		&layers.UDP{SrcPort: 7777, DstPort: 7777, Length: uint16(8 + len(floodMark))}, gopacket.Payload(floodMark)))}
	must(m.h, m.Do(func() (err error) {
		all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
		f.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
		if err == nil {
			err = unix.SetsockoptTimeval(f.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 1000})
		}
		return err
	}))
	f.running.Go(f.receive)
	f.running.Go(func() {
		_ = m.Do(func() error {
			for !f.ends.Load() {
				_ = f.send()                  // fails while there is no interface
				lab.LetPass(time.Millisecond) // leaves time for others
			}
			return nil
		})
	})
	m.h.Cleanup(func() { f.ends.Store(true); f.running.Wait(); _ = unix.Close(f.fd) })
	return f
}

// send sends some frames, if there is an interface.
func (f *flooder) send() error {
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	for range 20 {
		if err := unix.Sendto(f.fd, f.frame, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index}); err != nil {
			return err
		}
		f.sent.Add(1)
	}
	return nil
}

func (f *flooder) receive() {
	buffer := make([]byte, 2048)
	for !f.ends.Load() {
		n, from, err := unix.Recvfrom(f.fd, buffer, 0)
		if l, ok := from.(*unix.SockaddrLinklayer); err != nil || ok && l.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if bytes.Contains(buffer[:n], []byte(floodMark)) {
			f.arrived.Add(1)
		}
	}
}

// remake makes the VM's interface anew, as a restart of the VM does, and a port of the bridge again.
func (m *vm) remake(n *network) {
	m.h.Helper()
	mac := m.Link("eth0").Attrs().HardwareAddr.String()
	m.Unplug()
	lab.Cable(m.h.Host, m.Device, m.Host, "eth0")
	m.MustRun("ip", "link", "set", "eth0", "address", mac)
	m.h.Join(m.Device, n.link)
	m.h.Up(m.Device)
	m.Up("eth0", netip.PrefixFrom(m.Addresses[0], n.v4.Bits()).String(), netip.PrefixFrom(m.Addresses[1], n.v6.Bits()).String())
}

// An interface of a VM is made anew as a port, with the same name, while the VM and its neighbour flood. No policy allows the flood. Nothing of
// it passes before felix has seen the new interface, nor while felix does not run.
func TestAPortThatIsMadeAnewLeaksNothing(t *testing.T) {
	n := newTwoNetworks(t)
	w := newWorld()
	bob := w.workload(n.bob)
	w.protect(bob, 80)
	ep := w.Endpoints[bob]
	ep.Policies[calc.Normal][calc.Egress] = ep.Policies[calc.Normal][calc.Ingress] // the policy has no egress rules: bob opens nothing
	w.Endpoints[bob] = ep
	d := n.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	out, in := n.bob.flood(n.alice.Addresses[0]), n.alice.flood(n.bob.Addresses[0])
	flooded := func() {
		t.Helper()
		before := [2]int64{out.sent.Load(), in.sent.Load()}
		n.until("both floods", func() bool { return out.sent.Load() > before[0]+1000 && in.sent.Load() > before[1]+1000 })
		if out.arrived.Load()+in.arrived.Load() != 0 {
			t.Fatalf("of %d frames from the VM %d arrived, of %d frames to it %d", out.sent.Load(), in.arrived.Load(), in.sent.Load(), out.arrived.Load())
		}
	}
	flooded()
	for range 4 {
		n.bob.remake(n.first)
		flooded() // felix has not looked
		d.settle(func() bool {
			return d.stateOfInterface("vnet1") == Enforced && n.alice.ReachesAtOnce("tcp", n.bob.Addresses[0], 80)
		})
		flooded()
	}
	must(t, d.Close())
	for range 4 {
		n.bob.remake(n.first)
		flooded()
	}
	d = n.run(w, Options{})
	d.settle(func() bool { return n.alice.ReachesAtOnce("tcp", n.bob.Addresses[0], 80) })
	flooded()
	t.Logf("%d frames from the VM and %d to it", out.sent.Load(), in.sent.Load())
	must(t, d.Uninstall())
	n.until("the flood without felix", func() bool { return out.arrived.Load() > 0 && in.arrived.Load() > 0 })
	d = n.start(Options{}) // for the end of the test
}

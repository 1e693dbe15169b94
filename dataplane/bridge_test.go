package dataplane

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/packet"
	"github.com/margay-project/margay/internal/skip"
)

// network is a bridge with an address of each family, the gateways of the VMs on it.
type network struct {
	h    *host
	link netlink.Link
	v4   netip.Prefix // of the bridge itself
	v6   netip.Prefix
}

// bridge makes a bridge like a network of libvirt, with the gateways' addresses on the bridge. It has no STP, which takes seconds.
func (h *host) bridge(name, v4, v6 string) *network {
	h.Helper()
	return &network{h: h, link: h.Bridge(name, v4, v6), v4: netip.MustParsePrefix(v4), v6: netip.MustParsePrefix(v6)}
}

// plug starts a VM behind a port of the bridge. Its addresses are the numbered ones of the bridge's networks.
func (n *network) plug(dev string, number byte) *vm {
	n.h.Helper()
	m := n.h.plug(dev)
	m.join(n, number)
	return m
}

// join makes the VM's interface a port of the bridge, and gives the VM addresses of the bridge's networks.
func (m *vm) join(n *network, number byte) {
	m.h.Helper()
	m.h.Join(m.Device, n.link)
	for _, gateway := range []netip.Prefix{n.v4, n.v6} {
		bytes := gateway.Addr().AsSlice()
		bytes[len(bytes)-1] = number
		address, _ := netip.AddrFromSlice(bytes)
		m.Addresses = append(m.Addresses, address)
		m.Up("eth0", netip.PrefixFrom(address, gateway.Bits()).String())
		m.DefaultRoute("eth0", gateway.Addr().String())
	}
}

// gateways returns the addresses of the bridge.
func (n *network) gateways() []netip.Addr { return []netip.Addr{n.v4.Addr(), n.v6.Addr()} }

// twoNetworks are two bridges whose host routes between them. alice and bob are on the first, carol on the second. bob and carol
// answer on ports 80 and 81.
type twoNetworks struct {
	*host
	first, second     *network
	alice, bob, carol *vm
}

func newTwoNetworks(t *testing.T) *twoNetworks {
	t.Helper()
	h := newHost(t)
	h.Forward()
	n := &twoNetworks{host: h, first: h.bridge("virbr0", "192.168.122.1/24", "fd00:122::1/64"), second: h.bridge("br1", "192.168.123.1/24", "fd00:123::1/64")}
	n.alice, n.bob = n.first.plug("vnet0", 10), n.first.plug("vnet1", 11)
	n.carol = n.second.plug("tap0", 12)
	for _, m := range []*vm{n.bob, n.carol} {
		m.Echo(80, 81)
	}
	for _, to := range append(n.bob.Addresses, n.carol.Addresses...) {
		h.until("the bridges to forward", func() bool { return n.alice.ReachesAtOnce("tcp", to, 80) })
	}
	return n
}

// reaches checks on which of the ports 80 and 81 the addresses answer to a client, by TCP.
func (h *host) reaches(who string, client *vm, to []netip.Addr, open ...int) {
	h.Helper()
	for _, a := range to {
		for port := 80; port <= 81; port++ {
			wanted := len(open) > 0 && open[0] == port
			got := client.ReachesAtOnce("tcp", a, port)
			if wanted && !got {
				got = client.Reaches("tcp", a, port)
			}
			if got != wanted {
				h.Errorf("%s to %v port %d: answered is %v, want %v", who, a, port, got, wanted)
			}
		}
	}
}

// Endpoints name ports of two bridges. Policy is in force at each port: between VMs of one bridge, and between VMs of two bridges
// by way of the host. The bridges keep their work: felix makes no route, and changes no setting of a port.
func TestPolicyIsInForceAtThePortsOfBridges(t *testing.T) {
	n := newTwoNetworks(t)
	w := newWorld()
	w.workload(n.alice)
	bob, carol := w.workload(n.bob), w.workload(n.carol)
	proxy := readSetting(t, "net/ipv4/conf/vnet0/proxy_arp")
	d := n.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	for _, i := range d.Status().Interfaces {
		want := map[string]string{"vnet0": "bridged on virbr0", "vnet1": "bridged on virbr0", "tap0": "bridged on br1"}[i.Name]
		if i.Attached != want || want != "" && i.State != Enforced {
			t.Errorf("%s is %s, %q: %s", i.Name, i.State, i.Attached, i.Reason)
		}
	}
	for _, to := range [][]netip.Addr{n.bob.Addresses, n.carol.Addresses} {
		for _, a := range to {
			if !n.alice.Reaches("tcp", a, 80) || !n.alice.Reaches("udp", a, 81) {
				t.Errorf("%v does not answer although policy allows everything", a)
			}
		}
	}
	w.protect(bob, 80)
	w.protect(carol, 81)
	must(t, d.become(w))
	n.reaches("on one bridge", n.alice, n.bob.Addresses, 80)
	n.reaches("through two bridges", n.alice, n.carol.Addresses, 81)
	n.reaches("through two bridges, back", n.carol, n.bob.Addresses, 80)
	for _, r := range d.dumpRoutes() {
		if r.Kind == "workload" {
			t.Errorf("a route is wanted: %+v", r)
		}
	}
	block := netip.MustParsePrefix("10.65.0.0/26")
	paths := map[netip.Prefix]calc.Path{block: {Reason: "block"}, netip.PrefixFrom(n.bob.Addresses[0], 32): {Reason: "borrowed", Interface: "vnet1"}}
	if told := d.Routed(paths); len(told) != 1 || told[block].Reason != "block" || len(paths) != 2 {
		t.Errorf("announced: %v", told)
	}
	if routes := n.MustRun("ip", "route", "show", "proto", "86"); strings.Contains(routes, "vnet") {
		t.Errorf("routes through a port:\n%s", routes)
	}
	if now := readSetting(t, "net/ipv4/conf/vnet0/proxy_arp"); now != proxy {
		t.Errorf("proxy_arp of the port is %s", now)
	}
}

// The bridge has addresses of the host. A VM reaches them if the configuration lets workloads reach the host. The host reaches its VMs
// whatever their policy is.
func TestABridgedVMAndItsHost(t *testing.T) {
	n := newTwoNetworks(t)
	n.Echo(80)
	w := newWorld()
	w.workload(n.alice)
	w.protect(w.workload(n.bob), 9)
	d := n.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	n.reaches("the host is closed", n.alice, n.first.gateways())
	for _, a := range n.bob.Addresses {
		if !n.Reaches("tcp", a, 81) {
			t.Errorf("the host does not reach its VM %v", a)
		}
	}
	w.Config.ToHost = true
	must(t, d.become(w))
	n.reaches("the host is open", n.alice, n.first.gateways(), 80)
	n.reaches("the host is open, another of its addresses", n.alice, n.second.gateways(), 80)
}

// A bridge hands copies of broadcasts to the host too. They reach it only if workloads may reach the host; DHCP questions always do, because the
// host may be the DHCP server of the network.
func TestBroadcastsOfABridgedVMReachTheHostAsConfigured(t *testing.T) {
	n := newTwoNetworks(t)
	w := newWorld()
	w.workload(n.alice)
	d := n.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	wire := n.alice.Wire("eth0", net.HardwareAddr(layers.EthernetBroadcast))
	heard := make(chan int, 100)
	for _, port := range []int{67, 5000} {
		c, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		must(t, err)
		defer c.Close()
		go func() {
			for buffer := make([]byte, 2048); ; {
				if _, _, err := c.ReadFrom(buffer); err != nil {
					return
				}
				heard <- port
			}
		}()
	}
	datagram := func(from string, sport, dport layers.UDPPort) []byte {
		body := append([]byte{1, 1, 6, 0}, make([]byte, 236)...)
		return packet.Sealed(packet.Bytes(
			&layers.Ethernet{SrcMAC: wire.MAC, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeIPv4},
			&layers.IPv4{Version: 4, IHL: 5, Length: uint16(28 + len(body)), TTL: 64, Protocol: layers.IPProtocolUDP,
				SrcIP: netip.MustParseAddr(from).AsSlice(), DstIP: net.IPv4bcast.To4()},
			&layers.UDP{SrcPort: sport, DstPort: dport, Length: uint16(8 + len(body))}, gopacket.Payload(body)))
	}
	own := n.alice.Addresses[0].String()
	wire.Send(datagram(own, 1, 5000), datagram("0.0.0.0", 68, 67))
	if port := <-heard; port != 67 {
		t.Errorf("a broadcast to port %d reached the host", port)
	}
	w.Config.ToHost = true
	must(t, d.become(w))
	wire.Send(datagram(own, 1, 5000))
	if port := <-heard; port != 5000 {
		t.Errorf("a datagram came to port %d", port)
	}
}

// The host endpoint of the bridge itself stays in force beside the ports: it judges what goes to the host and what the host sends. A
// packet that passes both is judged by each, and its connection is shown once.
func TestABridgeWithAHostEndpoint(t *testing.T) {
	n := newTwoNetworks(t)
	n.Echo(80, 81)
	w := newWorld()
	w.Config.ToHost = true
	w.workload(n.alice)
	w.workload(n.bob)
	id := calc.EndpointID{Kind: "HostEndpoint", Name: "virbr0"}
	w.Endpoints[id] = calc.Endpoint{ID: id, Interface: "virbr0", Profiles: []string{"open"}}
	w.protect(id, 81)
	d := n.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	n.reaches("to the host", n.alice, n.first.gateways(), 81)
	c, err := n.alice.Dial("tcp", n.first.v4.Addr(), 81)
	must(t, err)
	defer c.Close()
	for range 3 {
		if !lab.Answered(c) {
			t.Error("no answer on an open connection")
		}
	}
	dump, err := d.Dump(10_000, TableConnections)
	must(t, err)
	shown := 0
	for _, x := range dump.Connections {
		if x.Protocol == 6 && x.Opener == netip.MustParseAddrPort(c.LocalAddr().String()) {
			shown++
			if len(x.Approvals) != 2 || !x.Approvals[0].Current || !x.Approvals[1].Current {
				t.Errorf("approvals %+v, want one of the port and one of the bridge", x.Approvals)
			}
		}
	}
	if shown != 1 {
		t.Errorf("the connection is shown %d times", shown)
	}
	for _, a := range n.bob.Addresses {
		if !n.alice.Reaches("tcp", a, 80) {
			t.Errorf("the policy of the bridge judges packets between its ports: %v does not answer", a)
		}
	}
}

// Docker has iptables drop what is forwarded, and br_netfilter shows iptables the packets between the ports of a bridge too. Those that policy
// allows pass nevertheless, also those from the network, and others do not.
func TestBridgedVMsWorkBesideIptables(t *testing.T) {
	const tool = "iptables-nft"
	needs(t, tool)
	n := newTwoNetworks(t)
	if out, err := n.Host.Run(exec.Command("sysctl", "-w", "net.bridge.bridge-nf-call-iptables=1")); err != nil {
		skip.For(t, "no br_netfilter: %v %s", err, out)
	}
	router := n.first.plug("eth7", 99)
	n.MustRun(tool, "-P", "FORWARD", "DROP")
	if v4 := n.bob.Addresses[0]; n.alice.ReachesAtOnce("tcp", v4, 80) || router.ReachesAtOnce("tcp", v4, 80) {
		t.Error("iptables does not see the packets of the bridge")
	}
	w := newWorld()
	w.workload(n.alice)
	w.protect(w.workload(n.bob), 80)
	c := &clock{time.Now()}
	d := n.run(w, Options{clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	d.settleOverTime(c, func() bool { return n.alice.ReachesAtOnce("tcp", n.bob.Addresses[0], 80) })
	n.reaches("between ports", n.alice, n.bob.Addresses[:1], 80)
	n.reaches("from the network", router, n.bob.Addresses[:1], 80)
}

// A machine on the network is behind a port of the bridge that has no endpoint, as an uplink.
func TestABridgedVMAndTheNetwork(t *testing.T) {
	n := newTwoNetworks(t)
	router := n.first.plug("eth7", 99)
	router.Echo(80, 81)
	w := newWorld()
	w.protect(w.workload(n.bob), 81)
	w.workload(n.alice)
	d := n.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	if state := d.stateOfInterface("eth7"); state != NoPolicy {
		t.Errorf("eth7 is %s", state)
	}
	n.reaches("from the network", router, n.bob.Addresses, 81)
	for _, a := range router.Addresses {
		if !n.alice.Reaches("tcp", a, 80) {
			t.Errorf("a VM that may send everything does not reach %v", a)
		}
	}
}

// A VM may send in its own name only: a forged source address, also in an ARP message, does not leave the port.
func TestABridgedVMSendsOnlyInItsOwnName(t *testing.T) {
	n := newTwoNetworks(t)
	w := newWorld()
	w.workload(n.alice)
	w.workload(n.bob)
	d := n.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	for _, own := range n.alice.Addresses {
		n.alice.RemoveAddress("eth0", netip.PrefixFrom(own, map[bool]int{true: 24, false: 64}[own.Is4()]).String())
	}
	n.alice.Up("eth0", "192.168.122.66/24", "fd00:122::66/64")
	n.alice.MustRun("ip", "neigh", "flush", "all")
	n.reaches("with another address", n.alice, n.bob.Addresses)
	drops := d.Status().Drops
	for _, reason := range []string{"ARP for another's address", "neighbour or listener message that is forged or not of the link"} {
		if drops[reason] == 0 {
			t.Errorf("no drop with the reason %q: %v", reason, drops)
		}
	}
}

// An interface becomes a port while felix runs, and ceases to be one. Felix routes to it, or judges it as a port.
func TestAnInterfaceBecomesAPortAndCeasesToBeOne(t *testing.T) {
	n := newTwoNetworks(t)
	routed := n.plug("cali1", "10.65.0.1", "fd00:65::1")
	w := newWorld()
	w.workload(routed)
	w.protect(w.workload(n.bob), 80)
	n.bob.Up("eth0", "10.65.0.2/32")
	id := calc.EndpointID{Kind: "WorkloadEndpoint", Namespace: "default", Name: "vnet1"}
	ep := w.Endpoints[id]
	second := netip.MustParseAddr("10.65.0.2")
	ep.Addresses = append(ep.Addresses, second)
	w.Endpoints[id] = ep
	w.Routes[netip.PrefixFrom(second, 32)] = calc.Route{Kind: calc.LocalWorkload, Interface: "vnet1"}
	d := n.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()

	port, err := netlink.LinkByName("vnet1")
	must(t, err)
	for range 2 {
		must(t, netlink.LinkSetNoMaster(port))
		n.bob.MustRun("ip", "route", "replace", "default", "via", "169.254.1.1", "dev", "eth0", "onlink")
		d.settle(func() bool { return routed.ReachesAtOnce("tcp", second, 80) })
		n.reaches("routed", routed, []netip.Addr{second}, 80)
		if attached := d.interfaceNamed("vnet1").Attached; attached != "" {
			t.Errorf("vnet1 is %s after it has left the bridge", attached)
		}
		must(t, netlink.LinkSetMaster(port, n.first.link))
		d.settle(func() bool {
			return d.interfaceNamed("vnet1").Attached != "" && n.alice.ReachesAtOnce("tcp", n.bob.Addresses[0], 80)
		})
		n.reaches("bridged", n.alice, n.bob.Addresses, 80)
		if routes := n.MustRun("ip", "route", "show", "proto", "86"); strings.Contains(routes, "vnet1") {
			t.Errorf("routes through the port:\n%s", routes)
		}
	}
}

func (d *driver) interfaceNamed(name string) Interface {
	for _, i := range d.Status().Interfaces {
		if i.Name == name {
			return i
		}
	}
	return Interface{}
}

// A VM on the bridge has no endpoint. It keeps its connectivity beside routed VMs.
func TestABridgeWithoutEndpointsIsLeftAlone(t *testing.T) {
	n := newTwoNetworks(t)
	routed := n.plug("cali1", "10.65.0.1", "fd00:65::1")
	w := newWorld()
	w.workload(routed)
	d := n.run(w, Options{})
	defer func() { must(t, d.Uninstall()) }()
	n.until("an answer", func() bool { return n.alice.ReachesAtOnce("tcp", n.bob.Addresses[0], 80) })
	if state := d.stateOfInterface("vnet0"); state != NoPolicy {
		t.Errorf("vnet0 is %s", state)
	}
}

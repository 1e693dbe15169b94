package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/router"
)

const (
	peeringAddress  = "169.254.0.179"
	peeringAddress6 = "fd00:179::1"
)

// routersInVMs are VMs with the label role=a that announce 10.123.0.0/16, and a router of the fabric that hears of it.
const routersInVMs = openProfile + `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: vms}
spec: {cidr: 10.65.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false, localWorkloadPeeringIPV4: ` + peeringAddress + `, localWorkloadPeeringIPV6: "` + peeringAddress6 + `"}
---
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {name: nested}
spec:
  importV4: [{cidr: 10.123.0.0/16, matchOperator: In, action: Accept}]
  importV6: [{cidr: "fd00:123::/32", matchOperator: In, action: Accept}]
---
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {name: to-fabric}
spec: {exportV4: [{cidr: 10.123.0.0/16, matchOperator: In, source: RemotePeers, action: Accept}]}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: vms}
spec: {localWorkloadSelector: role == 'a', asNumber: 65010, filters: [nested]}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: fabric}
spec: {peerIP: ` + clientAddress + `, asNumber: 65001, filters: [to-fabric]}
---
`

// fabricRouter is the client as a router.
var fabricRouter = fmt.Sprintf(`
router id %[1]s;
protocol device { }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
protocol bgp session { local %[1]s as 65001; neighbor %[2]s as 64512; connect delay time 1; connect retry time 1; error wait time 1, 2; graceful restart on;
	ipv4 { import all; export none; }; }
`, clientAddress, hostAddress)

// vmRouter is a router in a VM that announces prefixes, with a next hop that is not its own: that does not count.
func vmRouter(address string, announced ...string) string {
	var list strings.Builder
	for _, prefix := range announced {
		fmt.Fprintf(&list, "route %s blackhole; ", prefix)
	}
	return fmt.Sprintf(`
router id %[1]s;
protocol device { }
protocol static sent { ipv4; %[3]s }
protocol bgp host {
	local %[1]s as 65010; neighbor %[2]s as 64512; multihop 2;
	connect delay time 1; connect retry time 1; error wait time 1, 2; graceful restart on;
	ipv4 { import all; export filter { if proto != "sent" then reject; bgp_next_hop = 192.0.2.1; accept; }; };
}
`, address, peeringAddress, list.String())
}

// addressesOf returns the single addresses of an interface of the host, without those of the link.
func (l *site) addressesOf(dev string) (list []string) {
	l.Helper()
	l.host.Must(func() error {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		all, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		for _, a := range all {
			if ip, ok := netip.AddrFromSlice(a.IP); ok && !(ip.Is6() && ip.IsLinkLocalUnicast()) {
				list = append(list, ip.Unmap().String())
			}
		}
		return err
	})
	slices.Sort(list)
	return list
}

func (l *site) awaitAddresses(dev string, want ...string) {
	l.Helper()
	lab.Await(l, func() error {
		if got := l.addressesOf(dev); !slices.Equal(got, want) {
			return fmt.Errorf("%s has %q, want %q", dev, got, want)
		}
		return nil
	})
}

// awaitPeers waits until sessions have states, as "NAME STATE", sorted.
func (f *felix) awaitPeers(want ...string) {
	f.Helper()
	f.await(func(s *agentv1.StatusResponse) error {
		var got []string
		for _, p := range s.Peers {
			got = append(got, p.Name+" "+p.State)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("peers %q, want %q: %v", got, want, s.Peers)
		}
		return nil
	})
}

// receivedFrom returns the state of each route of a peer, with the reason.
func (f *felix) receivedFrom(peer string) map[string]string {
	f.Helper()
	found := map[string]string{}
	for _, r := range f.dump(received).Received {
		if r.Peer == peer {
			found[r.Prefix] = r.State + " " + r.Reason
		}
	}
	return found
}

const withVMA = "vms with shop/host1-libvirt-a-eth0"

// A VM with a router peers with its host. Routes that a filter accepts lead to the VM, also from the fabric; no other route of it counts. The VM
// reaches nothing else of the host, and a VM that is not selected not even that.
func TestAVMPeersWithItsHost(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.apply(routersInVMs)
	fabric := router.StartBIRD(t, l.client, t.TempDir(), fabricRouter)
	a, b := l.plug("a", "10.65.0.2"), l.plug("b", "10.65.0.3")
	l.host.Echo(port)
	f := l.start()
	f.awaitEnforced("cali-a")
	f.awaitEnforced("cali-b")
	announced := []string{"10.123.1.0/24", "10.124.0.0/24", "0.0.0.0/0", hostAddress + "/32", "10.65.0.3/32", "10.65.0.0/26", "10.65.0.0/16", "192.0.2.0/24"}
	bird := router.StartBIRD(t, a.Host, t.TempDir(), vmRouter("10.65.0.2", announced...))
	f.awaitPeers("fabric established", withVMA+" established")
	l.awaitAddresses("cali-a", peeringAddress)
	if got := l.addressesOf("cali-b"); len(got) > 0 {
		t.Errorf("the interface of a VM that is not selected has %q", got)
	}
	l.awaitLearned("10.123.1.0/24 via 10.65.0.2\n")
	fabric.AwaitRoute("10.123.1.0/24", "BGP.next_hop: "+hostAddress, "BGP.as_path: 64512 65010")
	bird.AwaitRoute("10.65.0.0/26", "BGP.next_hop: "+peeringAddress)
	got := f.receivedFrom(withVMA)
	for _, prefix := range announced[1:] {
		if want := "not used no BGPFilter of the BGPPeer accepts"; !strings.HasPrefix(got[prefix], want) {
			t.Errorf("%s is %q, want %q", prefix, got[prefix], want)
		}
	}
	if got["10.123.1.0/24"] != "programmed " {
		t.Errorf("the accepted route is %q", got["10.123.1.0/24"])
	}
	for _, prefix := range announced[1:] {
		if out, err := fabric.Ask("show route all where bgp_path.last = 65010"); err != nil || strings.Contains(out, prefix) {
			t.Errorf("the fabric has %s: %v\n%s", prefix, err, out)
		}
	}

	wire := a.Wire("eth0", nil)
	if l.client.ReachesAtOnce("udp", netip.MustParseAddr("10.123.1.1"), port) {
		t.Error("the VM answers from an address that is not its own")
	}
	wire.Await("packets to the network behind the VM", func(frame []byte) bool {
		return len(frame) > 34 && string(frame[30:34]) == string([]byte{10, 123, 1, 1})
	})

	peering := netip.MustParseAddr(peeringAddress)
	for what, reached := range map[string]bool{
		"a selected VM another port":              a.ReachesAtOnce("tcp", peering, port),
		"a selected VM UDP":                       a.ReachesAtOnce("udp", peering, port),
		"a selected VM BGP at the node's address": connects(a.Host, hostAddress),
		"another VM BGP at the peering address":   connects(b.Host, peeringAddress),
		"another VM with the address of the VM":   connectsFrom(b.Host, "10.65.0.2", peeringAddress),
		"another VM BGP at the node's address":    connects(b.Host, hostAddress),
		"another VM the host":                     b.ReachesAtOnce("udp", netip.MustParseAddr(hostAddress), port),
	} {
		if reached {
			t.Errorf("it reaches the host: %s", what)
		}
	}
	if !connects(a.Host, peeringAddress) {
		t.Error("the selected VM does not connect")
	}
	if !a.Reaches("udp", netip.MustParseAddr("10.65.0.3"), port) || !l.host.Reaches("udp", netip.MustParseAddr("10.65.0.2"), port) {
		t.Error("VMs and host do not reach VMs as before")
	}
}

// connects says whether a host connects to the BGP port of an address.
func connects(from *lab.Host, to string) bool {
	c, err := from.DialTimeout("tcp", net.JoinHostPort(to, "179"), time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// connectsFrom is connects with a source address that the host takes for itself.
func connectsFrom(from *lab.Host, source, to string) bool {
	from.Up("lo", source+"/32")
	defer from.RemoveAddress("lo", source+"/32")
	err := from.Do(func() error {
		d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		c, err := d.Dial("tcp", net.JoinHostPort(to, "179"))
		if err == nil {
			c.Close()
		}
		return err
	})
	return err == nil
}

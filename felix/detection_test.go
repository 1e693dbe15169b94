package main

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/internal/lab"
)

// aMachine has containers, a second network, and on eth0 a virtual address of keepalived before its own address.
func aMachine() machine {
	address := func(index int, iface, prefix string, change ...func(*ifaceAddress)) ifaceAddress {
		a := ifaceAddress{prefix: netip.MustParsePrefix(prefix), index: index, iface: iface}
		for _, do := range change {
			do(&a)
		}
		return a
	}
	floating := func(a *ifaceAddress) { a.floating = true }
	secondary := func(a *ifaceAddress) { a.secondary = true }
	temporary := func(a *ifaceAddress) { a.temporary = true }
	return machine{
		addresses: []ifaceAddress{
			address(1, "lo", "127.0.0.1/8"), address(1, "lo", "::1/128"),
			address(3, "docker0", "172.17.0.1/16"),
			address(2, "eth0", "192.0.2.100/24", floating),
			address(2, "eth0", "192.0.2.101/32"),
			address(2, "eth0", "203.0.113.10/24"),
			address(2, "eth0", "192.0.2.10/24", secondary),
			address(2, "eth0", "fe80::1/64"),
			address(2, "eth0", "2001:db8::99/64", temporary),
			address(2, "eth0", "2001:db8::98/64", floating),
			address(2, "eth0", "2001:db8::10/64"),
			address(4, "eth1", "198.51.100.10/24"),
			address(5, "vip0", "192.0.2.200/32"),
		},
		etcd:     []netip.Addr{netip.MustParseAddr("2001:db8:e::1"), netip.MustParseAddr("10.9.9.9")},
		defaults: func() ([]hop, error) { return nil, nil },
		source:   func(netip.Addr) netip.Addr { return netip.MustParseAddr("198.51.100.10") },
		lookUp:   func(string) []netip.Addr { return []netip.Addr{netip.MustParseAddr("10.1.1.1")} },
	}
}

func TestAutodetectionFindsTheNodeAddress(t *testing.T) {
	t.Parallel()
	by := func(hops ...hop) func(*machine) {
		return func(m *machine) { m.defaults = func() ([]hop, error) { return hops, nil } }
	}
	gateway := netip.MustParseAddr
	for name, c := range map[string]struct {
		method string
		v6     bool
		change func(*machine)
		want   string
	}{
		"by the default route, in the gateway's network":        {change: by(hop{true, 2, gateway("203.0.113.1"), netip.Addr{}}), want: "203.0.113.10/24"},
		"virtual addresses come last":                           {change: by(hop{true, 2, netip.Addr{}, netip.Addr{}}), want: "203.0.113.10/24"},
		"a virtual address is better than none":                 {change: by(hop{true, 5, netip.Addr{}, netip.Addr{}}), want: "192.0.2.200/32"},
		"the source that the route names":                       {change: by(hop{true, 2, gateway("203.0.113.1"), netip.MustParseAddr("192.0.2.10")}), want: "192.0.2.10/24"},
		"the first of two ways":                                 {change: by(hop{true, 4, gateway("198.51.100.1"), netip.Addr{}}, hop{true, 2, gateway("203.0.113.1"), netip.Addr{}}), want: "198.51.100.10/24"},
		"the second way when the first has no address":          {change: by(hop{true, 9, netip.Addr{}, netip.Addr{}}, hop{true, 4, netip.Addr{}, netip.Addr{}}), want: "198.51.100.10/24"},
		"IPv6 neither temporary nor deprecated":                 {v6: true, change: by(hop{false, 2, gateway("fe80::9"), netip.Addr{}}), want: "2001:db8::10/64"},
		"a route of the other family is ignored":                {v6: true, change: by(hop{true, 2, netip.Addr{}, netip.Addr{}}), want: ""},
		"without a default route on the way to etcd":            {want: "198.51.100.10/24"},
		"no address without any route":                          {change: func(m *machine) { m.source = func(netip.Addr) netip.Addr { return netip.Addr{} } }, want: ""},
		"first-found leaves out containers":                     {method: "first-found", want: "203.0.113.10/24"},
		"first-found finds IPv6":                                {method: "first-found", v6: true, want: "2001:db8::10/64"},
		"can-reach an address":                                  {method: "can-reach=10.1.1.1", want: "198.51.100.10/24"},
		"can-reach a name":                                      {method: "can-reach=www.example.org", want: "198.51.100.10/24"},
		"interface is the whole name":                           {method: "interface=eth", want: ""},
		"interface by pattern":                                  {method: "interface=eth[1-9]", want: "198.51.100.10/24"},
		"interface: the first pattern wins, also for a docker0": {method: "interface=docker.*,eth0", want: "172.17.0.1/16"},
		"skip-interface":                                        {method: "skip-interface=eth0,vip.*", want: "198.51.100.10/24"},
		"cidr: the first network wins":                          {method: "cidr=198.51.100.0/24,192.0.2.0/24", want: "198.51.100.10/24"},
		"cidr: virtual addresses last":                          {method: "cidr=192.0.2.0/25", want: "192.0.2.101/32"},
	} {
		d, err := parseDetection(c.method)
		must(t, err)
		m := aMachine()
		if c.change != nil {
			c.change(&m)
		}
		found, err := d.find(m, !c.v6)
		must(t, err)
		got := ""
		if found.IsValid() {
			got = found.String()
		}
		if got != c.want {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
	}
}

func TestInvalidDetectionMethodsAreRefused(t *testing.T) {
	t.Parallel()
	for method, text := range map[string]string{
		"kubernetes-internal-ip": "no Kubernetes",
		"interface":              "first-found, can-reach=",
		"interface=":             "nothing follows interface=",
		"interface=eth[":         "not a regular expression",
		"cidr=10.0.0.0/33":       "10.0.0.0/33",
		"guess":                  "first-found, can-reach=",
	} {
		if _, err := parseDetection(method); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// Reads a default route with two next hops, and an address with the mark of keepalived, from a real kernel.
func TestRoutesAndAddressesAreReadFromTheKernel(t *testing.T) {
	t.Parallel()
	host, other := lab.NewHost(t), lab.NewHost(t)
	lab.Cable(host, "eth0", other, "eth0")
	lab.Cable(host, "eth1", other, "eth1")
	host.Must(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return addVirtualAddress(link.Attrs().Index, net.IPv4(192, 0, 2, 100), 24)
	})
	host.Up("eth0", "192.0.2.10/24", "2001:db8::10/64")
	host.Up("eth1", "198.51.100.10/24")
	host.Must(func() error {
		hop := func(name string, gateway net.IP) *netlink.NexthopInfo {
			link, err := netlink.LinkByName(name)
			must(t, err)
			return &netlink.NexthopInfo{LinkIndex: link.Attrs().Index, Gw: gateway}
		}
		err := netlink.RouteAdd(&netlink.Route{
			Dst:       &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
			MultiPath: []*netlink.NexthopInfo{hop("eth0", net.IPv4(192, 0, 2, 1)), hop("eth1", net.IPv4(198, 51, 100, 1))},
		})
		if err != nil {
			return err
		}
		m, err := readMachine(nil)
		if err != nil {
			return err
		}
		found, err := detection{}.find(m, true)
		if err == nil && found.String() != "192.0.2.10/24" {
			t.Errorf("found %v among %+v", found, m.addresses)
		}
		if to := m.source(netip.MustParseAddr("198.51.100.1")); to.String() != "198.51.100.10" {
			t.Errorf("the source to the second gateway is %v", to)
		}
		return err
	})
}

// addVirtualAddress adds an address as keepalived does.
func addVirtualAddress(index int, addr net.IP, bits int) error {
	request := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	header := nl.NewIfAddrmsg(unix.AF_INET)
	header.Index, header.Prefixlen = uint32(index), uint8(bits)
	request.AddData(header)
	request.AddData(nl.NewRtAttr(unix.IFA_LOCAL, addr.To4()))
	request.AddData(nl.NewRtAttr(attributeProtocol, []byte{protocolKeepalived}))
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// Felix starts before DHCP has an address. Later the lease changes. At last the operator sets an address by hand.
func TestTheNodeAddressFollowsTheHostAddress(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	stored := func() (node *api.Node) {
		o, err := l.store.Get(t.Context(), api.Key{Kind: "Node", Name: "host1"})
		must(t, err)
		return o.(*api.Node)
	}
	becomes := func(want string) {
		t.Helper()
		lab.Await(t, func() error {
			if node := stored(); node.Spec.BGP == nil || node.Spec.BGP.IPv4Address != want || node.Spec.Addresses[0].Address != want {
				return errors.New("the Node does not have the address " + want)
			}
			return nil
		})
	}
	l.host.RemoveAddress("eth0", hostAddress+"/24") // the kernel also removes the default route
	l.apply(openProfile)
	f := l.startSynced()
	if node := stored(); node.Spec.BGP != nil {
		t.Errorf("without an address the Node has %+v", node.Spec.BGP)
	}
	l.host.Up("eth0", hostAddress+"/24")
	l.host.DefaultRoute("eth0", clientAddress)
	becomes(hostAddress + "/24")

	l.host.RemoveAddress("eth0", hostAddress+"/24")
	l.host.Up("eth0", "192.0.2.20/24")
	l.host.DefaultRoute("eth0", clientAddress)
	becomes("192.0.2.20/24")

	node := stored()
	node.Spec.BGP.IPv4Address = "192.0.2.77/24"
	_, err := l.store.Update(t.Context(), node)
	must(t, err)
	f.awaitProblem("Node(host1)", "no interface of this machine has the node's address 192.0.2.77", "spec.bgp")
	l.host.Up("eth0", "192.0.2.21/24")
	f.terminate()
	f = l.startSynced()
	f.awaitProblem("Node(host1)", "192.0.2.77")
	if node := stored(); node.Spec.BGP.IPv4Address != "192.0.2.77/24" {
		t.Errorf("the operator's address was replaced by %s", node.Spec.BGP.IPv4Address)
	}
}

package interfaces_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/interfaces"
)

func workload(name, iface string) calc.Endpoint {
	return calc.Endpoint{ID: calc.EndpointID{Kind: "WorkloadEndpoint", Name: name}, Interface: iface}
}

func host(name, iface string, expected ...string) calc.Endpoint {
	ep := calc.Endpoint{ID: calc.EndpointID{Kind: "HostEndpoint", Name: name}, Interface: iface}
	for _, a := range expected {
		ep.Addresses = append(ep.Addresses, netip.MustParseAddr(a))
	}
	return ep
}

func closed(ep calc.Endpoint, why string) calc.Endpoint {
	ep.Closed = why
	return ep
}

// aHost has loopback, an uplink, a second network, a bridge with a port, and two interfaces of workloads.
func aHost() interfaces.Links {
	addresses := func(text ...string) (list []netip.Addr) {
		for _, t := range text {
			list = append(list, netip.MustParseAddr(t))
		}
		return list
	}
	links := interfaces.Links{}
	for _, l := range []interfaces.Link{
		{Index: 1, Name: "lo", Loopback: true, Addresses: addresses("127.0.0.1", "::1")},
		{Index: 2, Name: "eth0", Uplink: true, Addresses: addresses("192.0.2.10", "2001:db8::10")},
		{Index: 3, Name: "eth1", AltNames: []string{"enp3s0"}, Addresses: addresses("198.51.100.10")},
		{Index: 4, Name: "br0", Kind: "bridge", Addresses: addresses("203.0.113.10")},
		{Index: 5, Name: "eth2", Master: 4},
		{Index: 6, Name: "cali1", Kind: "veth"},
		{Index: 7, Name: "cali2", Kind: "veth"},
	} {
		links[l.Index] = l
	}
	return links
}

// picture prints one line for each interface with a role, and one for each endpoint without an interface.
func picture(links interfaces.Links, endpoints []calc.Endpoint, rules interfaces.Rules) string {
	byID := map[calc.EndpointID]calc.Endpoint{}
	for _, ep := range endpoints {
		byID[ep.ID] = ep
	}
	assigned, idle := interfaces.Match(links, byID, rules)
	var lines []string
	for _, a := range assigned {
		line := fmt.Sprintf("%s: %s %s", a.Link.Name, [...]string{"none", "host", "workload"}[a.Role], a.Endpoint.Name)
		if text := a.Attachment(); text != "" {
			line += " " + text
		}
		if a.Closed != "" {
			line += " closed: " + a.Closed
		}
		if a.Refused != "" {
			line += " refused: " + a.Refused
		}
		if a.Role != interfaces.None || a.Refused != "" {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	for _, id := range slices.SortedFunc(maps.Keys(idle), func(a, b calc.EndpointID) int { return strings.Compare(a.Name, b.Name) }) {
		lines = append(lines, fmt.Sprintf("%s idle: %s", id.Name, idle[id]))
	}
	return strings.Join(lines, "\n")
}

var cali = interfaces.Rules{Prefixes: []string{"cali"}}

// A VM's interface may be a port of the bridge that carries the host's default route.
func TestAVMOnTheBridgeOfTheUplinkIsNoUplink(t *testing.T) {
	links := aHost()
	tap := links[6]
	tap.Master = 4
	links[6] = tap
	rules := interfaces.Rules{Uplinks: map[string]string{"br0": "carries the host's default route"}}
	got := picture(links, []calc.Endpoint{workload("vm", "cali1")}, rules)
	if got != "cali1: workload vm bridged on br0" {
		t.Error(got)
	}
}

// A bond or an Open vSwitch is no bridge: a workload's interface that is its port stays closed, with advice.
func TestAPortOfSomethingElseThanABridgeIsClosedWithAdvice(t *testing.T) {
	for _, kind := range []string{"bond", "team", "openvswitch"} {
		links := aHost()
		master := links[4]
		master.Kind = kind
		links[4] = master
		want := "eth2: workload a closed: eth2 is a port of br0, which is no bridge of the kernel: make it the port of a bridge, or take it off " +
			"(ip link set eth2 nomaster) and give the workload its address with the gateway 169.254.1.1, or remove the endpoint"
		if got := picture(links, []calc.Endpoint{workload("a", "eth2")}, interfaces.Rules{}); got != want {
			t.Errorf("%s: got\n%s", kind, got)
		}
	}
}

func TestMatchAssignsEndpointsToInterfaces(t *testing.T) {
	const orphan = "closed: no WorkloadEndpoint of this node names the interface: create one with this interfaceName, or correct interfacePrefix"
	for _, test := range []struct {
		behaviour string
		endpoints []calc.Endpoint
		rules     interfaces.Rules
		want      string
	}{
		{"an interface with the prefix is closed until an endpoint names it", nil, cali,
			"cali1: workload  " + orphan + "\ncali2: workload  " + orphan},
		{"a workload endpoint governs the interface it names, also without the prefix",
			[]calc.Endpoint{workload("web", "cali1"), workload("db", "eth1")}, interfaces.Rules{Prefixes: []string{"tap"}},
			"cali1: workload web\neth1: workload db"},
		{"a workload endpoint waits for its interface", []calc.Endpoint{workload("web", "tap1")}, interfaces.Rules{},
			"web idle: waiting for interface tap1"},
		{"the first by name keeps an interface that two workloads name",
			[]calc.Endpoint{workload("b", "cali1"), workload("a", "cali1")}, interfaces.Rules{},
			"cali1: workload a\nb idle: interface cali1 belongs to WorkloadEndpoint a"},
		{"an invalid endpoint closes its interface", []calc.Endpoint{closed(workload("web", "cali1"), "too many rules")}, interfaces.Rules{},
			"cali1: workload web closed: too many rules"},
		{"a workload endpoint never gets loopback or an uplink",
			[]calc.Endpoint{workload("a", "lo"), workload("b", "eth0")}, interfaces.Rules{},
			"eth0: none  refused: eth0 carries the host's default route: correct spec.interfaceName or interfacePrefix\n" +
				"lo: none  refused: lo is the host's loopback: correct spec.interfaceName or interfacePrefix\n" +
				"a idle: lo is the host's loopback: correct spec.interfaceName or interfacePrefix\n" +
				"b idle: eth0 carries the host's default route: correct spec.interfaceName or interfacePrefix"},
		{"a workload's interface that is a port of a bridge is judged there", []calc.Endpoint{workload("a", "eth2")}, interfaces.Rules{},
			"eth2: workload a bridged on br0"},
		{"a port of an uplink's bridge is never a workload's", []calc.Endpoint{workload("a", "eth2")},
			interfaces.Rules{Uplinks: map[string]string{"br0": "has an address of the Node"}},
			"eth2: none  refused: eth2 carries br0, which has an address of the Node: correct spec.interfaceName or interfacePrefix\n" +
				"a idle: eth2 carries br0, which has an address of the Node: correct spec.interfaceName or interfacePrefix"},
		{"a workload that is enforced stays so, without endpoint, prefix, or with a default route", nil,
			interfaces.Rules{Enforced: map[int]bool{2: true, 6: true}},
			"cali1: workload  " + orphan + "\neth0: workload  " + orphan},
		{"a host endpoint by name or by address, the first by name wins",
			[]calc.Endpoint{host("b", "eth0"), host("a", "", "2001:db8::10"), host("c", "", "198.51.100.10")}, interfaces.Rules{},
			"eth0: host a\neth1: host c\nb idle: another HostEndpoint governs interface eth0"},
		{"an endpoint with a name is never found by its address",
			[]calc.Endpoint{host("a", "eth7", "192.0.2.10")}, interfaces.Rules{},
			"a idle: waiting for interface eth7; this host has br0, cali1, cali2, eth0, eth1, eth2"},
		{"a host endpoint matches an alternative name", []calc.Endpoint{host("a", "enp3s0")}, interfaces.Rules{}, "eth1: host a"},
		{"a workload endpoint matches an alternative name", []calc.Endpoint{workload("a", "enp3s0"), workload("b", "eth1")}, interfaces.Rules{},
			"eth1: workload a\nb idle: interface eth1 belongs to WorkloadEndpoint a"},
		{"an uplink that carries no traffic now is no workload's", []calc.Endpoint{workload("a", "enp3s0")},
			interfaces.Rules{Uplinks: map[string]string{"eth1": "carried the traffic to etcd before"}},
			"eth1: none  refused: eth1 carried the traffic to etcd before: correct spec.interfaceName or interfacePrefix\n" +
				"a idle: eth1 carried the traffic to etcd before: correct spec.interfaceName or interfacePrefix"},
		{"* takes the remaining host interfaces except workloads, loopback and ports",
			[]calc.Endpoint{host("all", "*"), host("zzz", "*"), host("one", "eth1")}, cali,
			"br0: host all\ncali1: workload  " + orphan + "\ncali2: workload  " + orphan + "\neth0: host all\neth1: host one\n" +
				"zzz idle: no interface is left for it: each of the others is governed by another endpoint, belongs to a workload, or is a port of a bridge or bond"},
		{"a host endpoint does not get a port of a bridge", []calc.Endpoint{host("a", "eth2"), host("b", "br0")}, interfaces.Rules{},
			"br0: host b\na idle: eth2 is a port of br0, where its packets are judged: name br0 in spec.interfaceName"},
		{"a host endpoint does not get a workload's interface", []calc.Endpoint{host("a", "cali1"), workload("w", "cali1")}, interfaces.Rules{},
			"cali1: workload w\na idle: interface cali1 belongs to a workload"},
		{"an endpoint without a name or an address gets no interface", []calc.Endpoint{host("a", ""), workload("w", "")}, interfaces.Rules{},
			"a idle: the endpoint names no interface and no address: set spec.interfaceName or spec.expectedIPs\n" +
				"w idle: the endpoint names no interface: set spec.interfaceName"},
	} {
		t.Run(test.behaviour, func(t *testing.T) {
			if got := picture(aHost(), test.endpoints, test.rules); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// The interfaces that carry the packets of an uplink: the ports of a bond or a bridge, and the parent of a VLAN. Interfaces
// of VMs are ports of a bridge too, but carry no uplink.
func TestCarriesFindsPortsAndParentInterfaces(t *testing.T) {
	links := interfaces.Links{}
	for _, l := range []interfaces.Link{
		{Index: 1, Name: "eth0", Master: 2},
		{Index: 2, Name: "bond0", Kind: "bond"},
		{Index: 3, Name: "bond0.7", Kind: "vlan", On: 2, Master: 4},
		{Index: 4, Name: "br0", Kind: "bridge"},
		{Index: 5, Name: "vnet0", Kind: "tun", Master: 4},
		{Index: 6, Name: "ovs-system", Kind: "openvswitch"},
		{Index: 7, Name: "br-ex", Kind: "openvswitch"},
		{Index: 8, Name: "eth1", Master: 6},
		{Index: 9, Name: "vnet1", Kind: "tun", Master: 6},
		{Index: 10, Name: "eth2"},
	} {
		links[l.Index] = l
	}
	var pairs []string
	for _, lower := range links {
		for _, upper := range links {
			if links.Carries(lower, upper) {
				pairs = append(pairs, lower.Name+" "+upper.Name)
			}
		}
	}
	slices.Sort(pairs)
	if got := strings.Join(pairs, ", "); got != "bond0 bond0.7, bond0.7 br0, eth0 bond0, eth1 br-ex, eth1 ovs-system" {
		t.Error(got)
	}
}

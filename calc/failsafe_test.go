package calc

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/margay-project/margay/api"
)

// earlyState is a host endpoint whose policies deny SCTP at both early stages, and allow nothing at the others.
func earlyState() *State {
	nothing := func(name string, spec api.GlobalNetworkPolicySpec) api.Update {
		spec.Selector, spec.ApplyOnForward = "all()", true
		p := &api.GlobalNetworkPolicy{TypeMeta: api.TypeMeta{Kind: "GlobalNetworkPolicy"}, Metadata: api.Metadata{Name: name}, Spec: spec}
		return api.Update{Key: api.KeyOf(p), Object: p}
	}
	discard := []api.Rule{{Action: api.Deny, Protocol: &api.Protocol{Name: "SCTP"}}}
	hep := &api.HostEndpoint{TypeMeta: api.TypeMeta{Kind: "HostEndpoint"}, Metadata: api.Metadata{Name: "n1-eth0"},
		Spec: api.HostEndpointSpec{Node: "n1", InterfaceName: "eth0"}}
	return Compute("n1", Facts{Sessions: []Session{{Remote: netip.MustParseAddr("192.0.2.9"), Port: 2379, Outbound: true, Protocol: protocolTCP}}}, []api.Update{
		nothing("raw", api.GlobalNetworkPolicySpec{DoNotTrack: true, Types: []api.PolicyType{api.Ingress, api.Egress}, Ingress: discard, Egress: discard}),
		nothing("early", api.GlobalNetworkPolicySpec{PreDNAT: true, Types: []api.PolicyType{api.Ingress}, Ingress: discard}),
		nothing("closed", api.GlobalNetworkPolicySpec{Types: []api.PolicyType{api.Ingress, api.Egress}}),
		{Key: api.KeyOf(hep), Object: hep},
	})
}

func TestFailsafesOnlySkipTheEarlyStages(t *testing.T) {
	s := earlyState()
	for _, c := range []struct {
		name         string
		stage        Stage
		dir          Direction
		protocol     uint8
		sport, dport uint16
		want         api.Action
	}{
		{"a failsafe port", Normal, Ingress, protocolTCP, 5000, 22, api.Allow},
		{"a failsafe port", Forward, Ingress, protocolTCP, 5000, 22, api.Deny},
		{"a failsafe port", PreDNAT, Ingress, protocolTCP, 5000, 22, ""},
		{"a failsafe port", Untracked, Ingress, protocolTCP, 5000, 22, ""},
		{"a packet like an answer of DNS", Normal, Ingress, protocolUDP, 53, 9999, api.Deny},
		{"a packet like an answer of DNS", Untracked, Ingress, protocolUDP, 53, 9999, ""},
		{"a packet like an answer of etcd", Untracked, Ingress, protocolTCP, 2379, 81, ""},
		{"a packet like an answer of ssh", Untracked, Egress, protocolTCP, 22, 81, ""},
		{"a packet that policy denies early", PreDNAT, Ingress, protocolSCTP, 22, 22, api.Deny},
		{"a packet that policy denies untracked", Untracked, Egress, protocolSCTP, 22, 22, api.Deny},
	} {
		p := Packet{Source: netip.MustParseAddr("192.0.2.9"), Destination: netip.MustParseAddr("192.0.2.2"),
			Protocol: c.protocol, SourcePort: c.sport, DestinationPort: c.dport}
		if got := Judge(s, eth0OfN1, c.stage, c.dir, p); got.Action != c.want {
			t.Errorf("%v %v, %s: %q by %s, want %q", c.stage, c.dir, c.name, got.Action, got.Rule, c.want)
		}
	}
}

var eth0OfN1 = EndpointID{Kind: api.KindHostEndpoint, Name: "n1-eth0"}

func TestAFailsafePortWithoutAProtocolIsOfTCP(t *testing.T) {
	t.Parallel()
	ports := readFailsafes("failsafeInboundHostPorts", &[]api.ProtoPort{{Port: 22}, {Protocol: "Udp", Port: 68}, {Protocol: "icmp", Port: 1}}, nil,
		func(_, format string, args ...any) {
			if want := "failsafeInboundHostPorts: protocol \"icmp\" has no ports, so the entry is ignored: use tcp or udp"; fmt.Sprintf(format, args...) != want {
				t.Errorf("%s, want %s", fmt.Sprintf(format, args...), want)
			}
		})
	want := []failsafePort{{protocol: protocolTCP, port: 22}, {protocol: protocolUDP, port: 68}}
	if !slices.Equal(ports, want) {
		t.Errorf("%v, want %v", ports, want)
	}
}

func TestTheHostGetsItsAddressFromDHCP(t *testing.T) {
	s := earlyState()
	for _, c := range []struct {
		stage        Stage
		dir          Direction
		from, to     string
		sport, dport uint16
		want         api.Action
	}{
		{Normal, Egress, "0.0.0.0", "255.255.255.255", 68, 67, api.Allow},
		{Normal, Ingress, "192.0.2.1", "255.255.255.255", 67, 68, api.Allow},
		{Normal, Egress, "fe80::1", "ff02::1:2", 546, 547, api.Allow},
		{Normal, Ingress, "fe80::2", "fe80::1", 547, 546, api.Allow},
		{Untracked, Ingress, "fe80::2", "fe80::1", 547, 546, ""},
		{Forward, Ingress, "fe80::2", "fe80::1", 547, 546, api.Deny},
		{Normal, Ingress, "2001:db8::2", "fe80::1", 547, 546, api.Deny},
		{Normal, Egress, "fe80::1", "2001:db8::2", 546, 547, api.Deny},
	} {
		p := Packet{Source: netip.MustParseAddr(c.from), Destination: netip.MustParseAddr(c.to),
			Protocol: protocolUDP, SourcePort: c.sport, DestinationPort: c.dport}
		if got := Judge(s, eth0OfN1, c.stage, c.dir, p); got.Action != c.want {
			t.Errorf("%v %v from %s to %s: %q by %s, want %q", c.stage, c.dir, c.from, c.to, got.Action, got.Rule, c.want)
		}
	}
}

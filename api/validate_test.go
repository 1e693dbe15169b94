package api

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEveryFailingFieldIsReported(t *testing.T) {
	t.Parallel()
	six := 6
	policy := &GlobalNetworkPolicy{Metadata: Metadata{Name: "a"}, Spec: GlobalNetworkPolicySpec{
		Selector: "role = 'db'",
		Ingress:  []Rule{{Action: "Permit", IPVersion: &six, Source: EntityRule{Nets: []string{"10.0.0.1/8"}}}},
	}}
	want := `error with the following fields:
-  spec.selector = 'role = 'db'' (not a selector: at column 6 want an operator: ==, !=, in, not in, contains, starts with or ends with)
-  spec.ingress[0].action = 'Permit' (want Allow, Deny, Log or Pass)
-  spec.ingress[0].source.nets[0] = '10.0.0.1/8' (address bits outside of the prefix are set: did you mean 10.0.0.0/8?)`
	err := Validate(policy)
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
	var fields Errors
	if !errors.As(err, &fields) || len(fields) != 3 || fields[1].Path != "spec.ingress[0].action" {
		t.Errorf("%#v", fields)
	}
	err = Validate(&Tier{Metadata: Metadata{Name: "A"}})
	if err == nil || err.Error() != "error with field metadata.name = 'A' (want a-z, 0-9 and dashes inside)" {
		t.Error(err)
	}
}

func TestManifestsBeyondCalicosRulesAreAccepted(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{
		"{action: Allow, destination: {ports: [9999, '8000:8010', web]}}",
		"{action: Allow, source: {nets: [10.0.0.1, 'fd00::/8']}, destination: {notNets: ['fd00::1']}}",
		"{action: Allow, protocol: udp, destination: {domains: ['*.Example.com', example.com.]}}",
		"{action: Allow, protocol: TCP, notProtocol: icmp}",
	} {
		if ok, why := accepted(head + "spec:\n  egress:\n  - " + rule + "\n"); !ok {
			t.Errorf("%s: %s", rule, why)
		}
	}
	for _, rule := range []string{
		"{action: Deny, destination: {domains: [example.com]}}",
		"{action: Allow, source: {domains: [example.com]}}",
		"{action: Allow, destination: {domains: ['a..b']}}",
		"{action: Allow, protocol: ICMP, destination: {ports: [53]}}",
	} {
		if ok, _ := accepted(head + "spec:\n  egress:\n  - " + rule + "\n"); ok {
			t.Errorf("%s: accepted", rule)
		}
	}
}

func TestDefaultsAreStableAndFillWhatIsStored(t *testing.T) {
	t.Parallel()
	order, automatic := 1000000.0, "Automatic"
	for _, c := range []struct{ from, want Object }{
		{&Tier{}, &Tier{Spec: TierSpec{Order: &order, DefaultAction: new(Deny)}}},
		{&GlobalNetworkPolicy{}, &GlobalNetworkPolicy{Metadata: Metadata{Labels: map[string]string{TierLabel: "default"}},
			Spec: GlobalNetworkPolicySpec{Tier: "default", Types: []PolicyType{Ingress}}}},
		{&GlobalNetworkPolicy{Spec: GlobalNetworkPolicySpec{Tier: "ops", Egress: []Rule{{Action: Deny}}}},
			&GlobalNetworkPolicy{Metadata: Metadata{Labels: map[string]string{TierLabel: "ops"}},
				Spec: GlobalNetworkPolicySpec{Tier: "ops", Egress: []Rule{{Action: Deny}}, Types: []PolicyType{Egress}}}},
		{&IPPool{Spec: IPPoolSpec{CIDR: "fd00:0010:0::/64"}}, &IPPool{Spec: IPPoolSpec{CIDR: "fd00:10::/64", BlockSize: 122,
			NodeSelector: "all()", IPIPMode: "Never", VXLANMode: "Never", AllowedUses: []string{"Workload", "Tunnel"}, AssignmentMode: &automatic}}},
		{&BGPConfiguration{}, &BGPConfiguration{Spec: BGPConfigurationSpec{LogSeverityScreen: "Info", ServiceLoadBalancerAggregation: "Enabled"}}},
		{&FelixConfiguration{Spec: FelixConfigurationSpec{FailsafeInboundHostPorts: &[]ProtoPort{{Protocol: "TCP", Port: 22}}}},
			&FelixConfiguration{Spec: FelixConfigurationSpec{FailsafeInboundHostPorts: &[]ProtoPort{{Protocol: "TCP", Port: 22}},
				BPFConnectTimeLoadBalancing: new("TCP"), BPFHostNetworkedNATWithoutCTLB: new("Enabled"), FloatingIPs: new("Disabled"),
				NFTablesMode: new("Auto"), NFTablesFlowTableOffload: new("Disabled")}}},
		{&WorkloadEndpoint{Spec: WorkloadEndpointSpec{Node: "n1", Orchestrator: "vmm", Workload: "vm-1", Endpoint: "eth0"}},
			&WorkloadEndpoint{Metadata: Metadata{Name: "n1-vmm-vm--1-eth0", Namespace: "default",
				Labels: map[string]string{NamespaceLabel: "default", OrchestratorLabel: "vmm"}},
				Spec: WorkloadEndpointSpec{Node: "n1", Orchestrator: "vmm", Workload: "vm-1", Endpoint: "eth0"}}},
	} {
		setType(c.want, typeName(c.want))
		for range 2 {
			Default(c.from)
			if diff := cmp.Diff(c.want, c.from); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestNamesOfWorkloadEndpoints(t *testing.T) {
	t.Parallel()
	for want, spec := range map[string]WorkloadEndpointSpec{
		"vm--host1-openstack-vm--42-eth0": {Node: "vm-host1", Orchestrator: "openstack", Workload: "vm-42", Endpoint: "eth0"},
		"n-k8s-p-eth0":                    {Node: "n", Orchestrator: "k8s", Pod: "p", Endpoint: "eth0"},
		"n-cni-abc-eth0":                  {Node: "n", Orchestrator: "cni", ContainerID: "abc", Endpoint: "eth0"},
		"n-libnetwork-libnetwork-e":       {Node: "n", Orchestrator: "libnetwork", Endpoint: "e"},
	} {
		if got, err := WorkloadEndpointName(spec); got != want || err != nil {
			t.Errorf("%s, error %v, want %s", got, err, want)
		}
	}
	_, err := WorkloadEndpointName(WorkloadEndpointSpec{Node: "n", Orchestrator: "vmm", Endpoint: "e"})
	if err == nil || !strings.Contains(err.Error(), "spec.workload is missing") {
		t.Error(err)
	}
	if _, err := WorkloadEndpointName(WorkloadEndpointSpec{Node: "-n", Orchestrator: "vmm", Workload: "w", Endpoint: "e"}); err == nil {
		t.Error("a part may not begin with a dash")
	}
}

func TestParseNet(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.1.2.3/8": "10.0.0.0/8", "10.0.0.1": "10.0.0.1/32", "fd00::1": "fd00::1/128", "::/0": "::/0",
		"fd00:0010::/64": "fd00:10::/64",
		"":               "", "10.0.0.0/33": "", "010.0.0.0/8": "", "::ffff:10.0.0.1": "10.0.0.1/32", "::ffff:10.0.0.0/104": "10.0.0.0/8", "::ffff:10.0.0.1/90": "::ffc0:0:0/90", "10.0.0.0/08": "10.0.0.0/8",
		"10.0.0.0/+8": "", "fe80::1%eth0/64": "", "fe80::1%eth0": "", "x": "",
	} {
		got, err := ParseNet(text)
		if want == "" && err == nil || want != "" && (err != nil || got != netip.MustParsePrefix(want)) {
			t.Errorf("%s: %v, error %v, want %q", text, got, err, want)
		}
	}
	if p, err := ParseAddrNet("10.0.0.1/24"); err != nil || p.String() != "10.0.0.1/24" {
		t.Error(p, err)
	}
}

func TestPeerAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:0", "192.0.2.1:1790": "192.0.2.1:1790", "2001:db8::1": "[2001:db8::1]:0", "[2001:db8::1]:179": "[2001:db8::1]:179",
		"[192.0.2.1]:179": "192.0.2.1:179", "192.0.2.1:00179": "192.0.2.1:179", "192.0.2.1:000179": "", "192.0.2.1:65536": "", "192.0.2.1:": "", "::ffff:192.0.2.1": "",
		"fe80::1": "[fe80::1]:0", "fe80::1%eth0": "[fe80::1%eth0]:0", "[fe80::1%eth0.7]:1179": "[fe80::1%eth0.7]:1179", "fe80::1%": "", "fe80::1%3": "",
		"fe80::1%a-name-too-long0": "", "fe80::1%a/b": "", "fe80::1%a b": "", "fe80::1%..": "", "2001:db8::1%eth0": "", "::ffff:169.254.0.1%eth0": "",
		"192.0.2.1:0": "", "[2001:db8::1]": "", "x": "", "": "",
	} {
		if got, ok := PeerAddress(text); ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v, want %q", text, got, want)
		}
	}
}

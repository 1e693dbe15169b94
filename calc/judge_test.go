package calc

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/api"
)

var (
	vm   = EndpointID{Kind: "WorkloadEndpoint", Namespace: "ns", Name: "vm"}
	eth0 = EndpointID{Kind: "HostEndpoint", Name: "eth0"}
)

// to is a TCP packet from 192.0.2.1 to a port of 10.0.0.1, port 80 by default.
func to(port uint16) Packet {
	return Packet{
		Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("10.0.0.1"),
		Protocol: protocolTCP, SourcePort: 40000, DestinationPort: port,
	}
}

func TestAnEndpointWithoutPoliciesAndProfilesIsDenied(t *testing.T) {
	s := &State{Endpoints: map[EndpointID]Endpoint{vm: {ID: vm}}}
	if got := Judge(s, vm, Normal, Ingress, to(80)); got.Action != api.Deny || got.Rule.String() != "end of profiles" {
		t.Errorf("got %+v", got)
	}
	if got := Judge(s, EndpointID{Name: "unknown"}, Normal, Ingress, to(80)); got.Action != api.Deny {
		t.Errorf("unknown endpoint: got %+v", got)
	}
}

// Host endpoint eth0 has failsafe ports at the front, and a policy that allows port 443 and logs; the tier passes at its end.
func hostState(end api.Action) *State {
	s := newState()
	failsafe, web := PolicyID{Kind: KindFailsafe, Name: "ports"}, PolicyID{Kind: "GlobalNetworkPolicy", Name: "web"}
	s.Policies[failsafe] = Policy{ID: failsafe, Ingress: []Rule{failsafePort{protocol: protocolTCP, port: 22}.in()}}
	s.Policies[web] = Policy{ID: web, Tier: "t", Ingress: []Rule{
		{Action: api.Log, V4: true, V6: true},
		{Action: api.Allow, Never: true},
		{Action: api.Allow, V4: true, Protocol: protocolTCP, Destination: Match{Ports: []PortRange{{443, 443}}}},
	}}
	s.Tiers["t"] = Tier{Name: "t", Default: end}
	e := Endpoint{ID: eth0}
	for _, stage := range []Stage{Normal, PreDNAT, Untracked} {
		e.Policies[stage][Ingress] = []TierPolicies{{Policies: []PolicyID{failsafe}}, {Tier: "t", Policies: []PolicyID{web}}}
	}
	e.Policies[Forward][Ingress] = []TierPolicies{{Tier: "t", Policies: []PolicyID{web}}}
	s.Endpoints[eth0] = e
	return s
}

func TestStagesEndDifferently(t *testing.T) {
	for _, c := range []struct {
		stage  Stage
		end    api.Action
		port   uint16
		action api.Action
		rule   string
		passed int
	}{
		{Normal, api.Deny, 22, api.Allow, "failsafe ports/0", 0},
		{Normal, api.Deny, 443, api.Allow, "t/web/2", 0},
		{Normal, api.Deny, 80, api.Deny, "end of tier t", 0},
		{Normal, api.Pass, 80, api.Deny, "end of profiles", 1},
		{Forward, api.Deny, 22, api.Deny, "end of tier t", 0},
		{Forward, api.Pass, 80, "", "", 1},
		{PreDNAT, api.Deny, 80, "", "", 0},
		{PreDNAT, api.Deny, 443, api.Allow, "t/web/2", 0},
		{Untracked, api.Deny, 80, "", "", 0},
		{Untracked, api.Deny, 22, api.Allow, "failsafe ports/0", 0},
	} {
		got := Judge(hostState(c.end), eth0, c.stage, Ingress, to(c.port))
		if got.Action != c.action || got.Rule.String() != c.rule || len(got.Passed) != c.passed {
			t.Errorf("%v, end of tier %s, port %d: got %s by %q after %d passes, want %s by %q after %d",
				c.stage, c.end, c.port, got.Action, got.Rule, len(got.Passed), c.action, c.rule, c.passed)
		}
	}
}

func TestAClosedHostEndpointLetsOnlyFailsafesThrough(t *testing.T) {
	s := hostState(api.Pass)
	e := s.Endpoints[eth0]
	e.Profiles = []string{defaultAllow}
	e.close("for a test")
	e.Policies[Normal][Ingress][0].Policies = []PolicyID{{Kind: KindFailsafe, Name: "ports"}}
	s.Endpoints[eth0] = e
	for _, c := range []struct {
		stage Stage
		port  uint16
		want  api.Action
	}{{Normal, 22, api.Allow}, {Normal, 443, api.Deny}, {Forward, 22, api.Deny}, {PreDNAT, 443, ""}, {Untracked, 443, ""}} {
		if got := Judge(s, eth0, c.stage, Ingress, to(c.port)); got.Action != c.want {
			t.Errorf("%v, port %d: got %q, want %q", c.stage, c.port, got.Action, c.want)
		}
	}
}

func TestCriteriaAreMetOrNot(t *testing.T) {
	sets := map[SetID]Members{"web": {netip.MustParsePrefix("192.0.2.0/28"): {}}, "none": {}}
	v6 := Packet{Source: netip.MustParseAddr("fd00::1"), Destination: netip.MustParseAddr("fd00::2"), Protocol: protocolICMPv6, ICMPType: 128}
	gre := to(0)
	gre.Protocol = 47
	nets := func(all ...string) (n []netip.Prefix) {
		for _, text := range all {
			n = append(n, netip.MustParsePrefix(text))
		}
		return n
	}
	for name, c := range map[string]struct {
		rule   Rule
		packet Packet
		want   bool
	}{
		"nothing asked":                        {Rule{}, to(80), true},
		"other protocol":                       {Rule{Protocol: protocolUDP}, to(80), false},
		"not the protocol":                     {Rule{NotProtocol: protocolTCP}, to(80), false},
		"one of the networks":                  {Rule{Source: Match{Nets: nets("10.0.0.0/8", "192.0.2.0/24")}}, to(80), true},
		"none of the networks":                 {Rule{Source: Match{Nets: nets("10.0.0.0/8")}}, to(80), false},
		"an excluded network":                  {Rule{Source: Match{NotNets: nets("192.0.2.1/32")}}, to(80), false},
		"an IPv6 network with all of IPv4":     {Rule{Source: Match{Nets: nets("::/0")}}, to(80), false},
		"member of the set":                    {Rule{Source: Match{Set: "web"}}, to(80), true},
		"empty set":                            {Rule{Source: Match{Set: "none"}}, to(80), false},
		"not in an empty set":                  {Rule{Source: Match{NotSet: "none"}}, to(80), true},
		"set that does not exist":              {Rule{Source: Match{Set: "gone"}}, to(80), false},
		"in the excluded set":                  {Rule{Source: Match{NotSet: "web"}}, to(80), false},
		"port in a range":                      {Rule{Destination: Match{Ports: []PortRange{{1, 10}, {80, 90}}}}, to(80), true},
		"port of the other side":               {Rule{Source: Match{Ports: []PortRange{{80, 80}}}}, to(80), false},
		"excluded port":                        {Rule{Destination: Match{NotPorts: []PortRange{{80, 80}}}}, to(80), false},
		"ports, but the protocol has none":     {Rule{Destination: Match{Ports: []PortRange{{0, 65535}}}}, gre, false},
		"excluded ports, protocol has none":    {Rule{Destination: Match{NotPorts: []PortRange{{0, 65535}}}}, gre, true},
		"ICMP of that type":                    {Rule{ICMP: &ICMP{128, -1}}, v6, true},
		"ICMP of another code":                 {Rule{ICMP: &ICMP{128, 1}}, v6, false},
		"ICMP, but it is TCP":                  {Rule{ICMP: &ICMP{-1, -1}}, to(80), false},
		"not ICMP of that type":                {Rule{NotICMP: &ICMP{128, 0}}, v6, false},
		"not ICMP of that type, and it is TCP": {Rule{NotICMP: &ICMP{0, 0}}, to(80), true},
	} {
		c.rule.V4, c.rule.V6 = true, true
		if got := c.rule.Matches(c.packet, sets); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if (Rule{V6: true}).Matches(to(80), nil) || (Rule{V4: true, V6: true, Never: true}).Matches(to(80), nil) {
		t.Error("a rule about the other family, or that never matches, matches")
	}
}

func TestHostEndpointsGovernInterfaces(t *testing.T) {
	heps := map[EndpointID]Endpoint{}
	add := func(name, iface, closed string, ips ...string) {
		e := Endpoint{ID: EndpointID{Kind: "HostEndpoint", Name: name}, Interface: iface, Closed: closed}
		for _, ip := range ips {
			e.Addresses = append(e.Addresses, netip.MustParseAddr(ip))
		}
		heps[e.ID] = e
	}
	add("b-eth0", "eth0", "")
	add("c-eth0", "eth0", "")
	add("a-eth0-invalid", "eth0", "invalid")
	add("d-by-address", "", "", "10.0.0.1", "10.0.0.2")
	add("a-named-elsewhere", "eth9", "", "10.0.0.1")
	add("z-all", "*", "")
	add("y-all", "*", "")
	add("eth2-invalid", "eth2", "invalid")
	heps[vm] = Endpoint{ID: vm, Interface: "cali1"}
	for _, c := range []struct {
		iface, address, want string
	}{
		{"eth0", "10.9.9.9", "b-eth0"},
		{"eth1", "10.0.0.2", "d-by-address"},
		{"eth1", "10.9.9.9", "y-all"},
		{"eth2", "10.9.9.9", "eth2-invalid"},
		{"eth0", "10.0.0.1", "b-eth0"},
	} {
		got, found := HostEndpointFor(c.iface, []netip.Addr{netip.MustParseAddr(c.address)}, heps)
		if !found || got.Name != c.want {
			t.Errorf("%s with %s: got %v, want %s", c.iface, c.address, got, c.want)
		}
	}
	if id, found := HostEndpointFor("eth0", nil, nil); found {
		t.Errorf("nothing governs, got %v", id)
	}
}

func TestRulesReadAsSentences(t *testing.T) {
	rule := Rule{
		Action: api.Deny, V4: true, Protocol: protocolUDP,
		Source:      Match{Set: `role == "web"`, NotPorts: []PortRange{{1, 1023}}},
		Destination: Match{Nets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Ports: []PortRange{{53, 53}, {5300, 5399}}},
	}
	want := `deny ipv4 udp from role == "web" and not port 1:1023 to 10.0.0.0/8 and port 53, 5300:5399`
	if diff := cmp.Diff(want, rule.String()); diff != "" {
		t.Error(diff)
	}
}

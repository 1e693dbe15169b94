package calc

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/margay-project/margay/api"
)

// Text is the State for people, and for tests that compare text: one line for each fact, sorted within its kind.
func (s *State) Text() string {
	var t text
	if !s.Ready {
		t.line("not ready: the datastore asks to leave everything as it is")
	}
	for _, tier := range s.SortedTiers() {
		t.tier(tier)
	}
	for _, p := range s.SortedPolicies() {
		t.policy(p)
	}
	for _, id := range slices.Sorted(maps.Keys(s.Sets)) {
		t.line("set", string(id)+":", join(s.Sets[id].Sorted()))
	}
	for _, e := range s.SortedEndpoints() {
		t.endpoint(e)
	}
	for _, p := range sortedPrefixes(s.Routes) {
		t.route(p, s.Routes[p])
	}
	for _, p := range sortedPrefixes(s.Pools) {
		t.pool(p, s.Pools[p])
	}
	t.bgp(s.BGP)
	t.config(s.Config)
	for _, p := range s.SortedProblems() {
		t.problem(p)
	}
	return t.String()
}

type text struct{ strings.Builder }

// line writes a line of the words that are not empty.
func (t *text) line(words ...string) {
	t.WriteString(strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "))
	t.WriteByte('\n')
}

func (t *text) tier(tier Tier) {
	t.line("tier", tier.Name, tier.Order.String(), "end", lower(tier.Default), when(tier.Missing, "missing"))
}

func (t *text) route(to netip.Prefix, r Route) {
	via := ""
	switch r.Kind {
	case ViaNode:
		via = fmt.Sprintf("via %v of Node(%s)", r.Gateway, r.Node)
	case ToPeer:
		via = fmt.Sprintf("via %v, as BGPPeer(%s) says", r.Gateway, r.Peer)
	}
	t.line("route", to.String(), r.Kind.String(), r.Interface, via)
}

func (t *text) pool(cidr netip.Prefix, p Pool) {
	t.line("pool", cidr.String(), "blocks", fmt.Sprintf("/%d", p.BlockSize), p.Encap, when(p.NATOutgoing, "nat"),
		when(p.NoExport, "not announced"), when(p.Disabled, "disabled"))
}

func (t *text) problem(p Problem) { t.line("problem", p.Object.String()+":", p.Text) }

func (t *text) policy(p Policy) {
	if p.Tier != "" {
		t.line("policy", p.Name(), p.Order.String())
	}
	for i, r := range p.Ingress {
		t.line("rule", RuleID{Policy: p.ID, Tier: p.Tier, Index: i}.String(), "ingress:", r.String())
	}
	for i, r := range p.Egress {
		t.line("rule", RuleID{Policy: p.ID, Tier: p.Tier, Index: i}.String(), "egress:", r.String())
	}
}

func (t *text) endpoint(e Endpoint) {
	who := "endpoint " + e.ID.String()
	t.line(who, when(e.Interface != "", "on "+e.Interface), join(e.Addresses), when(len(e.SourceNets) > 0, "may send from "+join(e.SourceNets)), e.MAC, when(e.Closed != "", "closed: "+e.Closed))
	for stage, directions := range e.Policies {
		for dir, tiers := range directions {
			for _, tier := range tiers {
				t.line(who, Stage(stage).String(), Direction(dir).String()+":", tier.String())
			}
		}
	}
	if len(e.Profiles) > 0 {
		t.line(who, "profiles:", strings.Join(e.Profiles, ", "))
	}
}

func (t *text) bgp(b BGP) {
	t.line("bgp as", fmt.Sprint(b.AS), "router id", b.RouterID.String(), "port", fmt.Sprint(b.ListenPort),
		when(b.BindNodeIP, "only on"), when(b.V4.IsValid(), b.V4.String()), when(b.V6.IsValid(), b.V6.String()),
		when(b.Metric4 != 0, fmt.Sprintf("ipv4 metric %d", b.Metric4)), when(b.Metric6 != 0, fmt.Sprintf("ipv6 metric %d", b.Metric6)),
		when(b.NoPools, "no learned routes to pools"), when(b.ClusterID.IsValid(), "cluster "+b.ClusterID.String()))
	for _, rule := range b.Transit {
		t.line("transit", rule.String())
	}
	for _, name := range slices.Sorted(maps.Keys(b.Peers)) {
		p := b.Peers[name]
		t.line("peer", name, netip.AddrPortFrom(p.Address, p.Port).String(), fmt.Sprintf("as %d", p.AS),
			when(p.LocalAS != 0, fmt.Sprintf("local as %d", p.LocalAS)), when(p.Source.IsValid(), "from "+p.Source.String()),
			when(p.Gateway.IsValid(), "by gateway "+p.Gateway.String()),
			fmt.Sprintf("restart %v", p.RestartTime), when(p.Keepalive != 0, fmt.Sprintf("keepalive %v", p.Keepalive)),
			when(p.TTLSecurity != 0, fmt.Sprintf("ttl security %d", p.TTLSecurity)), when(p.Passive, "passive"), when(p.Password.IsSet(), "password from "+p.Password.String()),
			when(p.AllowOwnAS != 0, fmt.Sprintf("allow own as %d", p.AllowOwnAS)),
			when(p.MaxPrefixes != defaultMaxPrefixes, fmt.Sprintf("at most %d routes", p.MaxPrefixes)), when(p.Client, "client"),
			when(p.NextHop != "", "next hop "+p.NextHop), p.origin())
		t.filters(name, p.Filters)
	}
	for _, p := range sortedPrefixes(b.Paths) {
		t.line("path", p.String(), b.Paths[p].Reason, when(b.Paths[p].Interface != "", "by "+b.Paths[p].Interface), strings.Join(b.Paths[p].Communities, ", "))
	}
}

func (p Peer) origin() string {
	if p.IsWorkload() {
		return "with WorkloadEndpoint(" + p.Workload + ") on " + p.Interface + " by BGPPeer(" + p.Object + ")"
	}
	if p.Object == "" {
		return "by the mesh with Node(" + p.Node + ")"
	}
	return "by BGPPeer(" + p.Object + ")"
}

func (t *text) config(c Config) {
	for _, name := range slices.Sorted(maps.Keys(c.Raw)) {
		t.line("config", name, strconv.Quote(c.Raw[name]))
	}
}

// SortedTiers returns the tiers in the order of evaluation.
func (s *State) SortedTiers() []Tier {
	return slices.SortedFunc(maps.Values(s.Tiers), Tier.Compare)
}

// SortedPolicies returns the failsafes, then the policies in the order of evaluation, then the profiles by name.
func (s *State) SortedPolicies() []Policy {
	rank := func(p Policy) int { return slices.Index([]string{KindFailsafe, "", api.KindProfile}, p.class()) }
	return slices.SortedFunc(maps.Values(s.Policies), func(p, q Policy) int {
		return cmp.Or(cmp.Compare(rank(p), rank(q)), p.compareIn(s.Tiers, q))
	})
}

func (p Policy) class() string {
	if p.ID.Kind == KindFailsafe || p.ID.Kind == api.KindProfile {
		return p.ID.Kind
	}
	return ""
}

// SortedEndpoints returns the endpoints by kind, namespace and name.
func (s *State) SortedEndpoints() []Endpoint {
	return slices.SortedFunc(maps.Values(s.Endpoints), func(a, b Endpoint) int {
		return strings.Compare(a.ID.String(), b.ID.String())
	})
}

// SortedProblems returns the problems by object and text.
func (s *State) SortedProblems() []Problem {
	return sortedProblems(slices.Collect(maps.Keys(s.Problems)))
}

func sortedProblems(problems []Problem) []Problem {
	return slices.SortedFunc(slices.Values(problems), func(a, b Problem) int {
		return cmp.Or(compareKeys(a.Object, b.Object), strings.Compare(a.Text, b.Text))
	})
}

// Sorted returns the members by address, and short prefixes before long ones.
func (m Members) Sorted() []netip.Prefix { return sortedPrefixes(m) }

func sortedPrefixes[V any](m map[netip.Prefix]V) []netip.Prefix {
	return slices.SortedFunc(maps.Keys(m), comparePrefixes)
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// Name is the policy's name for people: TIER/POLICY, profile NAME or failsafe NAME.
func (p Policy) Name() string {
	name := RuleID{Policy: p.ID, Tier: p.Tier}.String()
	return strings.TrimSuffix(name, "/0")
}

func (e EndpointID) String() string {
	if e.Namespace == "" {
		return e.Kind + "(" + e.Name + ")"
	}
	return e.Kind + "(" + e.Namespace + "/" + e.Name + ")"
}

func (t TierPolicies) String() string {
	names := make([]string, len(t.Policies))
	for i, id := range t.Policies {
		names[i] = Policy{ID: id, Tier: t.Tier}.Name()
	}
	return strings.Join(names, ", ")
}

func (o Order) String() string {
	if !o.Set {
		return "last"
	}
	return "order " + strconv.FormatFloat(o.Value, 'f', -1, 64)
}

func (k RouteKind) String() string { return [...]string{"workload", "blackhole", "node", "peer"}[k] }

// String is the rule as a sentence: allow tcp from role == "web" to port 80.
func (r Rule) String() string {
	words := []string{lower(r.Action)}
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	switch {
	case r.Never:
		return words[0] + " never"
	case !r.V6:
		add("ipv4")
	case !r.V4:
		add("ipv6")
	}
	if r.Protocol != 0 {
		add("%s", protocolName(r.Protocol))
	}
	if r.NotProtocol != 0 {
		add("not %s", protocolName(r.NotProtocol))
	}
	if r.ICMP != nil {
		add("%v", *r.ICMP)
	}
	if r.NotICMP != nil {
		add("not %v", *r.NotICMP)
	}
	if source := r.Source.String(); source != "" {
		add("from %s", source)
	}
	if destination := r.Destination.String(); destination != "" {
		add("to %s", destination)
	}
	return strings.Join(words, " ")
}

func (m Match) String() string {
	var words []string
	add := func(given bool, what string) {
		if given {
			words = append(words, what)
		}
	}
	add(len(m.Nets) > 0, join(m.Nets))
	add(len(m.NotNets) > 0, "not "+join(m.NotNets))
	add(m.Set != "", string(m.Set))
	add(m.NotSet != "", "not "+string(m.NotSet))
	add(len(m.Ports) > 0 || m.Names != nil, "port "+portText(m.Ports, m.Names))
	add(len(m.NotPorts) > 0 || m.NotNames != nil, "not port "+portText(m.NotPorts, m.NotNames))
	return strings.Join(words, " and ")
}

// portText is ranges and names, and after each name the ports that it stands for: 80, http (tcp 8080, tcp 8081).
func portText(ranges []PortRange, names *PortNames) string {
	var words []string
	for _, r := range ranges {
		words = append(words, r.String())
	}
	if names == nil {
		names = &PortNames{}
	}
	for _, name := range names.Names {
		var stands []string
		for _, n := range names.Ports {
			if n.Name == name {
				stands = append(stands, n.String())
			}
		}
		if len(stands) == 0 {
			stands = []string{"none"}
		}
		words = append(words, name+" ("+strings.Join(stands, ", ")+")")
	}
	return strings.Join(words, ", ")
}

func (i ICMP) String() string {
	switch {
	case i.Type < 0:
		return "icmp"
	case i.Code < 0:
		return fmt.Sprintf("type %d", i.Type)
	}
	return fmt.Sprintf("type %d code %d", i.Type, i.Code)
}

func (p PortRange) String() string { return api.Port{First: p.First, Last: p.Last}.String() }

func protocolName(n uint8) string {
	switch n {
	case protocolICMP:
		return "icmp"
	case protocolTCP:
		return "tcp"
	case protocolUDP:
		return "udp"
	case protocolICMPv6:
		return "icmpv6"
	case protocolSCTP:
		return "sctp"
	case protocolUDPLite:
		return "udplite"
	}
	return "protocol " + strconv.Itoa(int(n))
}

func lower(a api.Action) string { return strings.ToLower(string(a)) }

func when(yes bool, word string) string {
	if yes {
		return word
	}
	return ""
}

// join separates by commas.
func join[T fmt.Stringer](all []T) string {
	words := make([]string, len(all))
	for i, v := range all {
		words[i] = v.String()
	}
	return strings.Join(words, ", ")
}

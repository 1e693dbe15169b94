package api

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func (c *checker) tier(t *Tier) {
	if c.name(t.Name, 1); len(t.Name) > 63 {
		c.add("metadata.name", t.Name, "want at most 63 characters")
	}
	c.oneOf("spec.defaultAction", string(t.Spec.DefaultAction), string(Deny), string(Pass))
	if t.Name != DefaultTier && t.Name != KubeAdminTier && t.Name != KubeBaselineTier {
		return
	}
	order, action := builtinTier(t.Name)
	if t.Spec.Order != nil && *t.Spec.Order != order {
		c.add("spec.order", *t.Spec.Order, "the order of the built-in tier %s is always %v", t.Name, order)
	}
	if a := t.Spec.DefaultAction; a != "" && a != action {
		c.add("spec.defaultAction", a, "the default action of the built-in tier %s is always %s", t.Name, action)
	}
}

func (c *checker) policySpec(s *GlobalNetworkPolicySpec) {
	if s.Tier != "" && !(isLabel(s.Tier) && len(s.Tier) <= 63) {
		c.add("spec.tier", s.Tier, "not the name of a tier")
	}
	c.selector("spec.selector", s.Selector, false)
	c.selector("spec.serviceAccountSelector", s.ServiceAccountSelector, false)
	c.selector("spec.namespaceSelector", s.NamespaceSelector, false)
	for i, t := range s.Types {
		if t != Ingress && t != Egress {
			c.add(at("spec.types", i), t, "want Ingress or Egress")
		}
	}
	unique(c, "spec.types", s.Types)
	for i, h := range s.PerformanceHints {
		if h != "AssumeNeededOnEveryNode" {
			c.add(at("spec.performanceHints", i), h, "want AssumeNeededOnEveryNode")
		}
	}
	unique(c, "spec.performanceHints", s.PerformanceHints)
	c.stage(s)
	c.rules("spec.ingress", s.Ingress, Ingress, false)
	c.rules("spec.egress", s.Egress, Egress, false)
}

// stage checks the flags that move a policy to another place of the packet's path.
func (c *checker) stage(s *GlobalNetworkPolicySpec) {
	if s.PreDNAT && s.DoNotTrack {
		c.add("spec.preDNAT", true, "a policy cannot be both preDNAT and doNotTrack")
	}
	if s.PreDNAT && (len(s.Egress) > 0 || slices.Contains(s.Types, Egress)) {
		c.add("spec.preDNAT", true, "a preDNAT policy judges ingress only: remove the egress rules and the type Egress")
	}
	if (s.PreDNAT || s.DoNotTrack) && !s.ApplyOnForward {
		c.add("spec.applyOnForward", false, "must be true for preDNAT and doNotTrack policies")
	}
}

func (c *checker) networkSet(m *Metadata, spec NetworkSetSpec) {
	c.name(m.Name, 127)
	for i, n := range spec.Nets {
		if n == "" {
			continue // means nothing, and stored sets have it
		}
		if _, err := ParseNet(n); err != nil {
			c.add(at("spec.nets", i), n, "want a CIDR or an address")
		}
	}
	if ns, ok := m.Labels[NamespaceLabel]; ok {
		c.add("metadata.labels", NamespaceLabel+": "+ns, "this label is set by the system: remove it")
	}
}

func (c *checker) rules(path string, rules []Rule, direction PolicyType, profile bool) {
	if len(rules) > 1024 {
		c.add(path, fmt.Sprintf("%d rules", len(rules)), "want at most 1024: spread them over several policies")
	}
	for i := range rules {
		r := ruleChecker{c, &rules[i], at(path, i)}
		r.action(profile)
		r.protocols()
		r.icmp()
		r.http(direction, profile)
		r.sides(direction, profile)
		if m := r.Metadata; m != nil {
			c.annotations(r.path+".metadata.annotations", m.Annotations)
		}
	}
}

type ruleChecker struct {
	*checker
	*Rule
	path string
}

// action: profiles of old stores hold actions that nobody knows, which match nothing.
func (r ruleChecker) action(profile bool) {
	switch r.Action {
	case Allow, Deny, Log, Pass:
		return
	case "":
		r.add(r.path+".action", "", "missing: want Allow, Deny, Log or Pass")
		return
	}
	if !profile {
		r.add(r.path+".action", r.Action, "want Allow, Deny, Log or Pass")
	}
}

func (r ruleChecker) protocols() {
	if v := r.IPVersion; v != nil && *v != 4 && *v != 6 {
		r.add(r.path+".ipVersion", *v, "want 4 or 6")
	}
	r.protocol("protocol", r.Protocol)
	r.protocol("notProtocol", r.NotProtocol)
}

func (r ruleChecker) protocol(name string, p *Protocol) {
	if p == nil {
		return
	}
	number, ok := p.Value()
	if !ok {
		r.add(r.path+"."+name, p, "want TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or 1 to 255")
		return
	}
	if v := r.IPVersion; v != nil && (number == 1 && *v == 6 || number == 58 && *v == 4) {
		r.add(r.path+"."+name, p, "not a protocol of IPv%d", *v)
	}
}

func (r ruleChecker) icmp() {
	r.icmpFields("icmp", r.ICMP)
	r.icmpFields("notICMP", r.NotICMP)
	if r.ICMP == nil {
		return
	}
	number := uint8(0)
	if r.Protocol != nil {
		number, _ = r.Protocol.Value()
	}
	if number != 1 && number != 58 {
		r.add(r.path+".icmp", "", "needs the protocol ICMP or ICMPv6")
	}
}

func (r ruleChecker) icmpFields(name string, f *ICMPFields) {
	if f == nil {
		return
	}
	if f.Type != nil {
		r.between(r.path+"."+name+".type", int64(*f.Type), 0, 254)
	}
	if f.Code == nil {
		return
	}
	if r.between(r.path+"."+name+".code", int64(*f.Code), 0, 255); f.Type == nil {
		r.add(r.path+"."+name+".code", *f.Code, "needs a type")
	}
}

func (r ruleChecker) http(direction PolicyType, profile bool) {
	h, path := r.HTTP, r.path+".http"
	if h == nil {
		return
	}
	if r.Action != Allow {
		r.add(path, "", "only for the action Allow")
	}
	if direction == Egress && !profile {
		r.add(path, "", "only for ingress")
	}
	if p := r.Protocol; p != nil {
		if n, _ := p.Value(); n != 6 {
			r.add(path, "", "only for the protocol TCP")
		}
	}
	if len(h.Methods) > 20 || len(h.Paths) > 20 {
		r.add(path, fmt.Sprintf("%d methods, %d paths", len(h.Methods), len(h.Paths)), "want at most 20 of each")
	}
	unique(r.checker, path+".methods", h.Methods)
	for i, p := range h.Paths {
		text := p.Exact + p.Prefix
		switch {
		case (p.Exact == "") == (p.Prefix == ""):
			r.add(at(path+".paths", i), text, "want either exact or prefix")
		case text[0] != '/' || strings.ContainsAny(text, "?# "):
			r.add(at(path+".paths", i), text, "want a path from / without '?', '#' and blanks")
		}
	}
}

func (r ruleChecker) sides(direction PolicyType, profile bool) {
	r.side(r.path+".source", &r.Source, direction == Ingress, false)
	r.side(r.path+".destination", &r.Destination, direction == Egress, direction == Egress)
}

// side checks one side. Services and domains make sense for the far side only.
func (r ruleChecker) side(path string, e *EntityRule, far, domains bool) {
	r.nets(path+".nets", e.Nets, false)
	r.nets(path+".notNets", e.NotNets, true)
	r.selector(path+".selector", e.Selector, false)
	r.selector(path+".notSelector", e.NotSelector, true)
	r.selector(path+".namespaceSelector", e.NamespaceSelector, true)
	r.ports(path+".ports", e.Ports)
	r.ports(path+".notPorts", e.NotPorts)
	if a := e.ServiceAccounts; a != nil {
		r.selector(path+".serviceAccounts.selector", a.Selector, false)
	}
	if e.Services != nil {
		r.services(path+".services", e, far)
	}
	if len(e.Domains) > 0 {
		r.domains(path+".domains", e.Domains, domains)
	}
}

func (r ruleChecker) nets(path string, nets []string, negated bool) {
	if len(nets) > 256 {
		r.add(path, fmt.Sprintf("%d networks", len(nets)), "want at most 256: use a GlobalNetworkSet")
	}
	for i, text := range nets {
		net, err := ParseNet(text)
		switch {
		case err != nil:
			r.add(at(path, i), text, "want a CIDR such as 10.0.0.0/8, or an address")
		case hasHostBits(text):
			r.add(at(path, i), text, "address bits outside of the prefix are set: did you mean %s?", net)
		case negated && net.Bits() == 0:
			r.add(at(path, i), text, "excludes every address, so the rule would never match")
		case r.IPVersion != nil && (*r.IPVersion == 4) != net.Addr().Is4():
			r.add(at(path, i), text, "not of IPv%d, which the rule's ipVersion asks for", *r.IPVersion)
		}
	}
}

// ports: without a protocol they mean every protocol that has ports.
func (r ruleChecker) ports(path string, ports []Port) {
	if len(ports) > 50 {
		r.add(path, fmt.Sprintf("%d ports", len(ports)), "want at most 50: use ranges, or several rules")
	}
	if len(ports) > 0 && r.Protocol != nil && !r.Protocol.HasPorts() {
		r.add(path, r.Protocol, "the protocol has no ports: want TCP, UDP or SCTP")
	}
	for i, p := range ports {
		r.port(at(path, i), p)
	}
}

func (c *checker) port(path string, p Port) {
	switch {
	case p.Name != "" && !isPortName(p.Name):
		c.add(path, p, "want a port, a range such as 8000:8010, or a name of a-z, 0-9 and single dashes, at most 15 characters")
	case p.Name == "" && (p.First == 0 || p.Last < p.First):
		c.add(path, p, "want 1 to 65535")
	}
}

func (r ruleChecker) services(path string, e *EntityRule, far bool) {
	s := e.Services
	if s.Name == "" {
		r.add(path+".name", "", "missing")
	}
	if s.Namespace == "" {
		r.add(path+".namespace", "", "missing")
	}
	if !far {
		r.add(path, s.Name, "only for the source of ingress and the destination of egress")
	}
	if len(e.Nets)+len(e.NotNets)+len(e.Ports)+len(e.NotPorts) > 0 || e.Selector+e.NotSelector+e.NamespaceSelector != "" ||
		e.ServiceAccounts != nil {
		r.add(path, s.Name, "cannot be combined with nets, ports, selectors or serviceAccounts on the same side")
	}
}

func (r ruleChecker) domains(path string, domains []string, allowed bool) {
	if !allowed || r.Action != Allow {
		r.add(path, domains[0], "only for the destination of egress rules with the action Allow")
	}
	for i, d := range domains {
		if name, _ := strings.CutPrefix(d, "*."); !isName(strings.TrimSuffix(strings.ToLower(name), "."), 127) {
			r.add(at(path, i), d, "want a name such as example.com, or *.example.com")
		}
	}
}

// address checks an address of a family, 4 or 6, or of either.
func (c *checker) address(path, text string, family int) {
	a, err := ParseAddr(text)
	switch {
	case err != nil:
		c.add(path, text, "want an address")
	case family == 4 && !a.Is4(), family == 6 && !a.Is6():
		c.add(path, text, "want an IPv%d address", family)
	}
}

// net checks a CIDR or an address of a family, 4 or 6, or of either.
func (c *checker) net(path, text string, family int) (netip.Prefix, bool) {
	p, err := ParseNet(text)
	if err != nil || family == 4 && !p.Addr().Is4() || family == 6 && !p.Addr().Is6() {
		c.add(path, text, "want a CIDR or an address")
		return p, false
	}
	return p, true
}

package api

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func (c *checker) tier(t *Tier) {
	if c.name(t.Name, 1); len(t.Name) > 63 {
		c.add("metadata.name", t.Name, "want at most 63 characters")
	}
	action := t.Spec.DefaultAction
	if action != nil && *action != Deny && *action != Pass {
		c.add("spec.defaultAction", *action, "want one of Deny, Pass")
	}
	if t.Name != DefaultTier && t.Name != KubeAdminTier && t.Name != KubeBaselineTier {
		return
	}
	order, end := builtinTier(t.Name)
	if t.Spec.Order != nil && *t.Spec.Order != order {
		c.add("spec.order", *t.Spec.Order, "the order of the built-in tier %s is always %v", t.Name, order)
	}
	if action != nil && *action != end {
		c.add("spec.defaultAction", *action, "the default action of the built-in tier %s is always %s", t.Name, end)
	}
}

func (c *checker) policySpec(s *GlobalNetworkPolicySpec, namespaced bool) {
	if s.Tier != "" && !(isLabel(s.Tier) && len(s.Tier) <= 63) {
		c.add("spec.tier", s.Tier, "want the name of a tier: a-z, 0-9 and dashes inside, at most 63 characters")
	}
	for path, text := range inOrder(map[string]string{"spec.selector": s.Selector,
		"spec.serviceAccountSelector": s.ServiceAccountSelector, "spec.namespaceSelector": s.NamespaceSelector}) {
		c.selector(path, text)
		c.noGlobal(path, text)
	}
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
	c.rules("spec.ingress", s.Ingress, rulePlace{Ingress, namespaced})
	c.rules("spec.egress", s.Egress, rulePlace{Egress, namespaced})
}

// stage checks preDNAT and doNotTrack, which make a policy judge packets at another stage.
func (c *checker) stage(s *GlobalNetworkPolicySpec) {
	if s.PreDNAT && s.DoNotTrack {
		c.add("spec.preDNAT", true, "a policy cannot be both preDNAT and doNotTrack: remove one")
	}
	if s.PreDNAT && (len(s.Egress) > 0 || slices.Contains(s.Types, Egress)) {
		c.add("spec.preDNAT", true, "a preDNAT policy judges ingress only: remove the egress rules and the type Egress")
	}
	if (s.PreDNAT || s.DoNotTrack) && !s.ApplyOnForward {
		c.add("spec.applyOnForward", false, "want true for preDNAT and doNotTrack policies")
	}
}

func (c *checker) networkSet(m *Metadata, spec NetworkSetSpec) {
	c.name(m.Name, 127)
	for i, n := range spec.Nets {
		if n == "" {
			continue // has no effect, and occurs in stored sets
		}
		if _, err := ParseNet(n); err != nil {
			c.add(at("spec.nets", i), n, "want a CIDR or an address")
		}
	}
	if ns, ok := m.Labels[NamespaceLabel]; ok {
		c.add("metadata.labels", NamespaceLabel+": "+ns, "this label is set by the system: remove it")
	}
}

// rulePlace says where a rule is. In a profile direction is empty, and fewer checks are made: old datastores hold profiles with
// invalid rules, which match nothing.
type rulePlace struct {
	direction  PolicyType
	namespaced bool
}

func (p rulePlace) inProfile() bool { return p.direction == "" }

func (c *checker) rules(path string, rules []Rule, where rulePlace) {
	if len(rules) > 1024 && !where.inProfile() {
		c.add(path, fmt.Sprintf("%d rules", len(rules)), "want at most 1024: spread them over several policies")
	}
	for i := range rules {
		r := ruleChecker{c, &rules[i], at(path, i), where}
		if !where.inProfile() {
			r.action()
			r.httpPlace()
		}
		r.protocols()
		r.icmp()
		r.sides()
		if h := r.HTTP; h != nil {
			r.httpMatch(r.path+".http", h)
		}
		if m := r.Metadata; m != nil {
			c.annotations(r.path+".metadata.annotations", m.Annotations)
		}
	}
}

type ruleChecker struct {
	*checker
	*Rule
	path  string
	where rulePlace
}

func (r ruleChecker) action() {
	switch r.Action {
	case Allow, Deny, Log, Pass:
	case "":
		r.add(r.path+".action", "", "missing: want Allow, Deny, Log or Pass")
	default:
		r.add(r.path+".action", r.Action, "want Allow, Deny, Log or Pass")
	}
}

func (r ruleChecker) protocols() {
	if v := r.IPVersion; v != nil && *v != 4 && *v != 6 && !r.where.inProfile() {
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
	if v := r.IPVersion; v != nil && (number == 1 && *v == 6 || number == 58 && *v == 4) && !r.where.inProfile() {
		r.add(r.path+"."+name, p, "not a protocol of IPv%d: want ICMP with ipVersion 4, ICMPv6 with 6", *v)
	}
}

func (r ruleChecker) icmp() {
	r.icmpFields("icmp", r.ICMP)
	r.icmpFields("notICMP", r.NotICMP)
	if r.ICMP == nil || r.where.inProfile() {
		return
	}
	number := uint8(0)
	if r.Protocol != nil {
		number, _ = r.Protocol.Value()
	}
	if number != 1 && number != 58 {
		r.add(r.path+".icmp", r.ICMP, "want it with the protocol ICMP, ICMPv6, 1 or 58 only")
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
	if r.between(r.path+"."+name+".code", int64(*f.Code), 0, 255); f.Type == nil && !r.where.inProfile() {
		r.add(r.path+"."+name+".code", *f.Code, "only with a type")
	}
}

// httpPlace checks that a rule with these action, direction and protocol may have http.
func (r ruleChecker) httpPlace() {
	h, path := r.HTTP, r.path+".http"
	if h == nil {
		return
	}
	if r.Action != Allow {
		r.add(path, h, "only for the action Allow")
	}
	if r.where.direction == Egress {
		r.add(path, h, "only for ingress")
	}
	if p := r.Protocol; p != nil {
		if n, _ := p.Value(); n != 6 {
			r.add(path, h, "only for the protocol TCP, or without one")
		}
	}
	if len(h.Methods) > 20 || len(h.Paths) > 20 {
		r.add(path, fmt.Sprintf("%d methods, %d paths", len(h.Methods), len(h.Paths)), "want at most 20 of each")
	}
}

func (c *checker) httpMatch(path string, h *HTTPMatch) {
	unique(c, path+".methods", h.Methods)
	for i, p := range h.Paths {
		text := p.Exact + p.Prefix
		switch path := at(path+".paths", i); {
		case (p.Exact == "") == (p.Prefix == ""):
			c.add(path, text, "want either exact or prefix")
		case text[0] != '/' || strings.ContainsAny(text, "?# "):
			c.add(path, text, "want a path from / without '?', '#' and blanks")
		case utf8.RuneCountInString(text) > 1024:
			c.add(path, text, "%d characters: want at most 1024", utf8.RuneCountInString(text))
		}
	}
}

func (r ruleChecker) sides() {
	egress := r.where.direction == Egress
	r.side(r.path+".source", &r.Source, !egress, false)
	r.side(r.path+".destination", &r.Destination, egress, egress)
}

// side checks one side of a rule. far: it is the side that is not the endpoint, the only one that may have services. domains: it
// may have domains.
func (r ruleChecker) side(path string, e *EntityRule, far, domains bool) {
	r.nets(path+".nets", e.Nets, false)
	r.nets(path+".notNets", e.NotNets, true)
	r.selectors(path, e)
	r.ports(path+".ports", e.Ports)
	r.ports(path+".notPorts", e.NotPorts)
	if s := e.Services; s != nil {
		r.serviceNames(path+".services", s)
		if !r.where.inProfile() {
			r.services(path+".services", e, far)
		}
	}
	if len(e.Domains) > 0 {
		r.domains(path+".domains", e.Domains, domains)
	}
}

func (r ruleChecker) selectors(path string, e *EntityRule) {
	check := r.selector
	if r.where.inProfile() {
		check = r.longSelector
	} else {
		r.noGlobal(path+".selector", e.Selector)
	}
	check(path+".selector", e.Selector)
	check(path+".notSelector", e.NotSelector)
	check(path+".namespaceSelector", e.NamespaceSelector)
	r.globalAlone(path+".namespaceSelector", e.NamespaceSelector)
	if a := e.ServiceAccounts; a != nil {
		check(path+".serviceAccounts.selector", a.Selector)
	}
}

func (r ruleChecker) nets(path string, nets []string, negated bool) {
	if len(nets) > 256 && !r.where.inProfile() {
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
			r.add(at(path, i), text, "excludes every address, so the rule would never match: want a prefix length of at least 1")
		case r.IPVersion != nil && (*r.IPVersion == 4) != net.Addr().Is4():
			r.add(at(path, i), text, "not of IPv%d, which the rule's ipVersion asks for: want a network of that family", *r.IPVersion)
		}
	}
}

// ports checks ports. Without a protocol, a rule with ports matches every protocol that has ports.
func (r ruleChecker) ports(path string, ports []Port) {
	if len(ports) > 50 && !r.where.inProfile() {
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

func (c *checker) serviceNames(path string, s *ServiceMatch) {
	for field, name := range inOrder(map[string]string{".name": s.Name, ".namespace": s.Namespace}) {
		if name != "" && !isName(name, 127) {
			c.add(path+field, name, "want a-z, 0-9, dashes and dots inside, at most 253 characters")
		}
	}
}

func (r ruleChecker) services(path string, e *EntityRule, far bool) {
	s := e.Services
	if s.Name == "" {
		r.add(path+".name", "", "missing: want the name of a service")
	}
	if s.Namespace == "" && !r.where.namespaced && far {
		r.add(path+".namespace", "", "missing: want the namespace of the service")
	}
	if !far {
		r.add(path, s, "only for the source of ingress and the destination of egress")
	}
	if len(e.Nets)+len(e.NotNets) > 0 || e.Selector+e.NotSelector+e.NamespaceSelector != "" || e.ServiceAccounts != nil {
		r.add(path, s, "cannot be combined with nets, selectors or serviceAccounts on the same side: remove them")
	}
	if r.where.direction == Egress && len(e.Ports)+len(e.NotPorts) > 0 {
		r.add(path, s, "has ports of its own: remove ports and notPorts of the destination")
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

// address checks an address. family is 4, 6, or 0 for both.
func (c *checker) address(path, text string, family int) {
	a, err := ParseAddr(text)
	switch {
	case err != nil:
		c.add(path, text, "want an address such as 192.0.2.1 or 2001:db8::1")
	case family == 4 && !a.Is4(), family == 6 && !a.Is6():
		c.add(path, text, "want an IPv%d address", family)
	}
}

// net checks a CIDR or an address. family is 4, 6, or 0 for both.
func (c *checker) net(path, text string, family int) (netip.Prefix, bool) {
	p, err := ParseNet(text)
	switch {
	case err != nil:
		c.add(path, text, "want a CIDR such as 10.0.0.0/8, or an address")
		return p, false
	case family == 4 && !p.Addr().Is4(), family == 6 && !p.Addr().Is6():
		c.add(path, text, "want an IPv%d network or address", family)
		return p, false
	}
	return p, true
}

// network checks a CIDR. It accepts neither an address without a prefix length nor address bits outside of the prefix.
func (c *checker) network(path, text string) (netip.Prefix, bool) {
	p, err := ParseNet(text)
	switch {
	case err != nil || !strings.Contains(text, "/"):
		c.add(path, text, "want a CIDR such as 10.0.0.0/16 or fd00::/48")
		return p, false
	case hasHostBits(text):
		c.add(path, text, "address bits outside of the prefix are set: did you mean %s?", p)
	}
	return p, true
}

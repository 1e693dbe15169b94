package calc

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

// criteria reads the criteria of one rule.
type criteria struct {
	namespace string                     // of the rule's policy; empty: it is global
	numbersOf func(portUse) []portNumber // which ports a name stands for
	only      uint8                      // the rule's protocol; 0: any
	sets      []setSource                // that the rule names
	ports     []portUse                  // named ports that it uses
	skipped   []string                   // criteria that cannot be enforced, each with what to do
}

// skip notes a criterion that cannot be enforced.
func (c *criteria) skip(format string, args ...any) {
	c.skipped = append(c.skipped, fmt.Sprintf(format, args...))
}

// rule reads all criteria of a rule. Those in c.skipped afterwards are missing from the result.
func (c *criteria) rule(r api.Rule) Rule {
	protocol := c.protocol(r.Protocol)
	c.only = protocol
	out := Rule{
		Action:      c.action(r.Action),
		Protocol:    protocol,
		NotProtocol: c.protocol(r.NotProtocol),
		ICMP:        c.icmp(r.ICMP),
		NotICMP:     c.icmp(r.NotICMP),
		Source:      c.match("source", r.Source),
		Destination: c.match("destination", r.Destination),
	}
	if n := out.NotICMP; n != nil && n.Type < 0 {
		out.NotICMP = nil // its type was skipped: without it, all of ICMP would be excluded
	}
	if r.HTTP.Restricts() {
		c.skip("http is not enforced yet: remove it, or match ports")
	}
	for _, field := range r.Unknown {
		c.skip("field %s is not known to this version: remove it, or upgrade", field)
	}
	out.V4, out.V6 = c.families(r, out)
	return out
}

// action reads an action in any case. An unknown one denies.
func (c *criteria) action(a api.Action) api.Action {
	for _, known := range []api.Action{api.Allow, api.Deny, api.Log, api.Pass} {
		if strings.EqualFold(string(a), string(known)) {
			return known
		}
	}
	c.skip("action %q is not Allow, Deny, Log or Pass: correct it", a)
	return api.Deny
}

func (c *criteria) protocol(p *api.Protocol) uint8 {
	if p == nil {
		return 0
	}
	n, known := p.Value()
	if !known {
		c.skip("protocol %v is not known: give its number", p)
	}
	return n
}

// icmp reads a criterion about ICMP. An invalid type or code is skipped.
func (c *criteria) icmp(i *api.ICMPFields) *ICMP {
	if !i.Restricts() {
		return nil
	}
	out := &ICMP{Type: -1, Code: -1}
	if i.Type == nil {
		if i.Code != nil {
			c.skip("an ICMP code needs a type: add it")
		}
		return out
	}
	if *i.Type < 0 || *i.Type > 255 {
		c.skip("ICMP type %d is not within 0 and 254: correct it", *i.Type)
		return out
	}
	out.Type = int16(*i.Type)
	if i.Code == nil {
		return out
	}
	if *i.Code < 0 || *i.Code > 255 {
		c.skip("ICMP code %d is not within 0 and 255: correct it", *i.Code)
		return out
	}
	out.Code = int16(*i.Code)
	return out
}

// families finds which of IPv4 and IPv6 a rule can match.
func (c *criteria) families(r api.Rule, out Rule) (v4, v6 bool) {
	v4, v6 = true, true
	if r.IPVersion != nil {
		switch *r.IPVersion {
		case 4:
			v6 = false
		case 6:
			v4 = false
		default:
			c.skip("ipVersion %d is neither 4 nor 6: correct it", *r.IPVersion)
		}
	}
	if p := r.Protocol; p != nil { // the names say the family, the numbers do not
		v4 = v4 && !strings.EqualFold(p.Name, "ICMPv6")
		v6 = v6 && !strings.EqualFold(p.Name, "ICMP")
	}
	for _, list := range [][]netip.Prefix{
		out.Source.Nets, out.Source.NotNets, out.Destination.Nets, out.Destination.NotNets,
	} {
		if len(list) > 0 {
			has4, has6 := familiesOf(list)
			v4, v6 = v4 && has4, v6 && has6
		}
	}
	return v4, v6
}

func familiesOf(nets []netip.Prefix) (v4, v6 bool) {
	for _, n := range nets {
		v4 = v4 || n.Addr().Is4()
		v6 = v6 || n.Addr().Is6()
	}
	return v4, v6
}

// match reads one side of a rule. side is its name in problems: source or destination.
func (c *criteria) match(side string, e api.EntityRule) Match {
	m := Match{Nets: c.nets(side, e.Nets), NotNets: c.nets(side, e.NotNets)}
	var ports, notPorts []string
	m.Ports, ports = splitPorts(e.Ports)
	m.NotPorts, notPorts = splitPorts(e.NotPorts)
	if len(e.Domains) > 0 {
		c.skip("%s domains are not enforced yet: match nets or a selector", side)
	}
	if e.Services.Restricts() {
		c.skip("%s services are not enforced: match a selector", side)
	}
	for _, field := range e.Unknown {
		c.skip("%s field %s is not known to this version: remove it, or upgrade", side, field)
	}
	dropped, open := e.DroppedFields()
	e.Selector = open
	for _, field := range dropped {
		c.skip("%s field %s was dropped by a program that does not know it: apply the policy again as it was written", side, field)
	}
	in, notIn, err := c.selectors(e)
	if err != nil {
		c.skip("%s: %v: correct it", side, err)
		return m
	}
	if in != nil {
		m.Set = c.set(setSource{of: in})
	}
	if notIn != nil {
		m.NotSet = c.set(setSource{of: notIn})
	}
	m.Names, m.NotNames = c.named(ports, in), c.named(notPorts, in)
	return m
}

// set notes a set that the rule names.
func (c *criteria) set(s setSource) SetID {
	c.sets = append(c.sets, s)
	return s.id()
}

// nets reads a list, or skips it if one of its addresses is invalid: without that address the list would mean something else.
func (c *criteria) nets(side string, texts []string) []netip.Prefix {
	var nets []netip.Prefix
	for _, text := range texts {
		n, err := api.ParseNet(text)
		if err != nil {
			c.skip("%s: %v", side, err)
			return nil
		}
		nets = append(nets, n)
	}
	return nets
}

// splitPorts separates ranges of numbers from names, each name once.
func splitPorts(ports []api.Port) (ranges []PortRange, names []string) {
	for _, p := range ports {
		switch {
		case p.Name == "":
			ranges = append(ranges, PortRange{First: p.First, Last: p.Last})
		case !slices.Contains(names, p.Name):
			names = append(names, p.Name)
		}
	}
	return ranges, names
}

// named finds the ports that names stand for on the endpoints that a selector matches; nil matches all.
func (c *criteria) named(names []string, of *selector.Selector) *PortNames {
	if len(names) == 0 {
		return nil
	}
	if of == nil {
		of = selector.All()
	}
	named := &PortNames{Names: names}
	for _, name := range names {
		use := portUse{name, of}
		c.ports = append(c.ports, use)
		for _, n := range c.numbersOf(use) {
			if c.only == 0 || c.only == n.protocol {
				named.Ports = append(named.Ports, NamedPort{name, n.protocol, n.port, c.set(use.set(n))})
			}
		}
	}
	return named
}

// forgetNames takes the named ports out of a rule that has too many combinations, and the sets that only they need.
func (c *criteria) forgetNames(r *Rule) {
	for _, m := range []*Match{&r.Source, &r.Destination} {
		if m.Names != nil {
			m.Ports, m.Names = nil, nil // without its names, the list would match less than it says
		}
		m.NotNames = nil
	}
	c.sets = slices.DeleteFunc(c.sets, func(s setSource) bool { return s.name != "" })
}

// selectors combines the selectors of one side: in selects the entities of which one must have the address, notIn those of which none
// may have it. nil: no such condition.
func (c *criteria) selectors(e api.EntityRule) (in, notIn *selector.Selector, err error) {
	var all []*selector.Selector
	add := func(text string, rewrite func(*selector.Selector) *selector.Selector) {
		if text == "" || err != nil {
			return
		}
		var s *selector.Selector
		if s, err = selector.Parse(text); err == nil {
			all = append(all, rewrite(s))
		}
	}
	if e.NamespaceSelector == "" && c.namespace != "" &&
		(e.Selector != "" || e.NotSelector != "" || e.ServiceAccounts.Restricts()) {
		all = append(all, selector.Equal(labelNamespace, c.namespace))
	}
	add(e.NamespaceSelector, ofNamespaces)
	add(e.Selector, asWritten)
	if sa := e.ServiceAccounts; sa != nil {
		add(sa.Selector, ofServiceAccounts)
		if len(sa.Names) > 0 {
			all = append(all, selector.In(labelServiceAccount, sa.Names...))
		}
	}
	positive := len(all) > 0
	add(e.NotSelector, asWritten)
	switch {
	case err != nil:
		return nil, nil, err
	case !positive && len(all) == 1:
		return nil, all[0], nil
	case !positive:
		return nil, nil, nil
	case e.NotSelector != "":
		all[len(all)-1] = selector.Not(all[len(all)-1])
	}
	return selector.And(all...), nil, nil
}

func asWritten(s *selector.Selector) *selector.Selector { return s }

// ofServiceAccounts turns a selector of service accounts into one of the entities that have them.
func ofServiceAccounts(s *selector.Selector) *selector.Selector {
	return s.Rewrite(selector.Rewriting{Prefix: prefixServiceAccount})
}

// ofAllServiceAccounts is for the serviceAccountSelector of a GlobalNetworkPolicy, whose all() means any service account.
func ofAllServiceAccounts(s *selector.Selector) *selector.Selector {
	return s.Rewrite(selector.Rewriting{Prefix: prefixServiceAccount, All: selector.Has(labelServiceAccount)})
}

// limitAll makes all() mean every entity that has a label.
func limitAll(label string) func(*selector.Selector) *selector.Selector {
	return func(s *selector.Selector) *selector.Selector {
		return s.Rewrite(selector.Rewriting{All: selector.Has(label)})
	}
}

// ofNamespaces turns a selector of namespaces into one of the entities in them.
func ofNamespaces(s *selector.Selector) *selector.Selector {
	within := selector.Has(labelNamespace)
	return s.Rewrite(selector.Rewriting{Prefix: prefixNamespace, All: within, Global: selector.Not(within)})
}

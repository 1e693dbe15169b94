package classifier

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// family is what a rule asks of the address family, as far as its nets do not already imply it.
type family uint8

const (
	anyFamily family = iota
	onlyV4
	onlyV6
)

func familyOf(r *calc.Rule) family {
	nets := func(is func(netip.Addr) bool, lists ...[]netip.Prefix) bool {
		for _, l := range lists {
			if len(l) > 0 && !slices.ContainsFunc(l, func(p netip.Prefix) bool { return !is(p.Addr()) }) {
				return true
			}
		}
		return false
	}
	switch {
	case r.V4 && r.V6:
	case r.V4 && !nets(netip.Addr.Is4, r.Source.Nets, r.Destination.Nets):
		return onlyV4
	case r.V6 && !nets(netip.Addr.Is6, r.Source.Nets, r.Destination.Nets):
		return onlyV6
	}
	return anyFamily
}

// condition is what one dimension of a rule asks for: to be in all of in and in none of out. Rules share them.
type condition struct {
	key      string
	in, out  []*view
	rules    int        // that have it, the retired ones included
	slots    [2]slotSet // of those rules, by side
	newSlots [2]slotSet // those of slots that the classes do not have yet
}

func (cs *classes) conditionKey(in, out []*view) []byte {
	cs.scratch = cs.scratch[:0]
	for _, v := range in {
		cs.scratch = binary.LittleEndian.AppendUint32(cs.scratch, v.id)
	}
	cs.scratch = append(cs.scratch, 0, 0, 0, 0) // no view has id 0
	for _, v := range out {
		cs.scratch = binary.LittleEndian.AppendUint32(cs.scratch, v.id)
	}
	return cs.scratch
}

// condition returns the condition for some views, with one more rule that has it.
func (cs *classes) condition(in, out []*view) *condition {
	key := cs.conditionKey(in, out)
	c, found := cs.conds[string(key)]
	if !found {
		c = &condition{key: string(key), in: in, out: out}
		cs.conds[c.key] = c
		for _, v := range slices.Concat(in, out) {
			v.conds = append(v.conds, c)
		}
	}
	c.rules++
	return c
}

// releaseCondition takes back a rule. It returns the views that no condition needs any more.
func (cs *classes) releaseCondition(c *condition) (unused []*view) {
	c.rules--
	if c.rules > 0 {
		return nil
	}
	delete(cs.conds, c.key)
	for _, v := range slices.Concat(c.in, c.out) {
		v.conds = slices.DeleteFunc(v.conds, func(x *condition) bool { return x == c })
		if len(v.conds) == 0 {
			unused = append(unused, v)
		}
	}
	return unused
}

// condition gives an item the conditions of its rule. It reports whether the rule can match anything.
func (c *Classifier) condition(it *item) bool {
	r, v := it.rule, it.variant
	if r == nil {
		return true
	}
	if r.Never || !r.V4 && !r.V6 {
		return false
	}
	if v == nil {
		v = &variant{services: servicesOf(r), ports: sourcePortsOf(r)}
	}
	if len(v.services) == 0 || len(v.ports) == 0 {
		return false
	}
	it.conds[layout.DimSource] = c.addresses.match(&r.Source, v.source, familyOf(r))
	it.conds[layout.DimDest] = c.addresses.match(&r.Destination, v.dest, anyFamily)
	it.conds[layout.DimService] = c.services.match(v.services)
	it.conds[layout.DimSourcePort] = c.sourcePorts.match(v.ports)
	return true
}

// match is the condition that one side of a rule has for addresses, with that of a variant, or nil.
func (a *addresses) match(m *calc.Match, n named, f family) *condition {
	var in, out []*view
	add := func(to *[]*view, x *view) {
		if !slices.Contains(*to, x) {
			*to = append(*to, x)
		}
	}
	if len(m.Nets) > 0 {
		add(&in, a.list(m.Nets))
	}
	if m.Set != "" {
		add(&in, a.set(m.Set))
	}
	if len(m.NotNets) > 0 {
		add(&out, a.list(m.NotNets))
	}
	if m.NotSet != "" {
		add(&out, a.set(m.NotSet))
	}
	if n.in != "" {
		add(&in, a.set(n.in))
	}
	for _, id := range n.out {
		add(&out, a.set(id))
	}
	switch f {
	case onlyV4:
		add(&in, a.list([]netip.Prefix{allV4}))
	case onlyV6:
		add(&out, a.list([]netip.Prefix{allV4}))
	}
	if len(in)+len(out) == 0 {
		return nil
	}
	return a.condition(in, out)
}

// match is the condition for some points of a line, or nil for all of them.
func (l *line) match(s intervals) *condition {
	if len(s) == 1 && s[0] == (interval{0, l.points - 1}) {
		return nil
	}
	return l.condition([]*view{l.viewOf(s)}, nil)
}

// former says whether a condition for addresses is about a set as it was.
func (c *condition) former() bool {
	return c != nil && (slices.ContainsFunc(c.in, (*view).former) || slices.ContainsFunc(c.out, (*view).former))
}

func (v *view) former() bool { return v.set.view != v }

func (it *item) aboutAddresses() [2]*condition {
	return [...]*condition{it.conds[layout.DimSource], it.conds[layout.DimDest]}
}

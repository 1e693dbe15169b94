package classifier

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// family is the address family that a rule's conditions ask for. They need not ask if the rule's nets already fix it.
type family uint8

const (
	anyFamily family = iota
	onlyV4
	onlyV6
)

// familyOf returns the family that the conditions of a rule must ask for.
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

// condition is the demand of a rule in one dimension: the address or point must be in all views of in, and in no view of
// out. Rules with the same demand share it.
type condition struct {
	key      string
	in, out  []*view
	rules    int        // references: items that have it, retired ones included
	slots    [2]slotSet // of those items, by side
	newSlots [2]slotSet // part of slots: not yet in all classes
}

// conditionKey returns a key that is valid until the next call of classKey or conditionKey.
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

// conditionFor returns the condition for some views with one more reference.
func (cs *classes) conditionFor(in, out []*view) *condition {
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

// releaseCondition gives back a reference. It returns the views that no condition asks about any more.
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

// setConditions sets the conditions of an item, with references. It is false if the rule can match no packet; then there
// are none.
func (c *Classifier) setConditions(it *item) bool {
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
	// The family is asked of one side only: source and destination of a packet have the same.
	it.conds[layout.DimSource] = c.addresses.match(&r.Source, v.source, familyOf(r))
	it.conds[layout.DimDest] = c.addresses.match(&r.Destination, v.dest, anyFamily)
	it.conds[layout.DimService] = c.services.match(v.services)
	it.conds[layout.DimSourcePort] = c.sourcePorts.match(v.ports)
	return true
}

// match returns the condition of one side of a rule for addresses, together with the sets of a variant; nil if every
// address meets it.
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
	return a.conditionFor(in, out)
}

// match returns the condition for some points of a line; nil for all points.
func (l *line) match(s intervals) *condition {
	if len(s) == 1 && s[0] == (interval{0, l.points - 1}) {
		return nil
	}
	return l.conditionFor([]*view{l.viewOf(s)}, nil)
}

// former says whether a condition for addresses is about former members of a set.
func (c *condition) former() bool {
	return c != nil && (slices.ContainsFunc(c.in, (*view).former) || slices.ContainsFunc(c.out, (*view).former))
}

// former says whether a view shows former members of its set.
func (v *view) former() bool { return v.set.view != v }

// aboutAddresses returns the conditions for source and destination.
func (it *item) aboutAddresses() [2]*condition {
	return [...]*condition{it.conds[layout.DimSource], it.conds[layout.DimDest]}
}

package calc

import (
	"encoding/binary"
	"slices"
)

// group is the endpoints of one kind that the same selectors match. No selector matches a closed endpoint. join makes a group with its
// first member, and leave removes it with its last one.
type group struct {
	kind       string       // WorkloadEndpoint or HostEndpoint
	signature  string       // its key in locals.groups: the kind, and the serial numbers of its matchers
	selections []*selection // those that match its members, in the order of their serial numbers
	members    map[EndpointID]*local
	lists      [Stages][2][]TierPolicies // as in Endpoint.Policies; set by arrange
	named      map[PolicyID]struct{}     // the policies in lists, each once: the group makes them active; set by arrange
}

// join puts an endpoint into the group of the selectors that match it.
func (l *locals) join(n *local, matched []*matcher, active *activity) {
	slices.SortFunc(matched, func(a, b *matcher) int { return int(a.serial) - int(b.serial) })
	signature := make([]byte, 0, len(n.read.ID.Kind)+4*len(matched))
	signature = append(signature, n.read.ID.Kind...)
	for _, m := range matched {
		signature = binary.BigEndian.AppendUint32(signature, m.serial)
	}
	grp := l.groups[string(signature)]
	if grp == nil {
		grp = &group{
			kind: n.read.ID.Kind, signature: string(signature),
			members: map[EndpointID]*local{}, named: map[PolicyID]struct{}{},
		}
		l.groups[grp.signature] = grp
		for _, m := range matched {
			s := m.owner.(*selection)
			if s.groups == nil {
				s.groups = map[*group]struct{}{}
			}
			s.groups[grp] = struct{}{}
			grp.selections = append(grp.selections, s)
		}
		l.pendingGroups[grp] = struct{}{}
	}
	if n.group != grp {
		l.leave(n, active)
		n.group = grp
		grp.members[n.read.ID] = n
	}
}

// leave takes an endpoint out of its group. With its last member the group is removed, and no longer makes its policies active.
func (l *locals) leave(n *local, active *activity) {
	grp := n.group
	if grp == nil {
		return
	}
	n.group = nil
	delete(grp.members, n.read.ID)
	if len(grp.members) > 0 {
		return
	}
	delete(l.groups, grp.signature)
	delete(l.pendingGroups, grp)
	for _, s := range grp.selections {
		delete(s.groups, grp)
	}
	for id := range grp.named {
		active.refer(id, -1)
	}
}

// arrange makes a group's lists again, in the order of evaluation. It reports whether they changed.
func (grp *group) arrange(tiers map[string]Tier, active *activity) bool {
	var ordered []*policy
	for _, s := range grp.selections {
		s.policies.each(func(p *policy) {
			if p.appliesTo(grp.kind) {
				ordered = append(ordered, p)
			}
		})
	}
	slices.SortFunc(ordered, func(p, q *policy) int { return p.compareIn(tiers, q.Policy) })
	made := lists(grp.kind, ordered)
	if sameLists(made, grp.lists) {
		return false
	}
	grp.lists = made
	named := map[PolicyID]struct{}{}
	for id := range policiesOf(Endpoint{Policies: made}) {
		if _, again := named[id]; !again {
			named[id] = struct{}{}
			active.refer(id, 1)
		}
	}
	for id := range grp.named {
		active.refer(id, -1)
	}
	grp.named = named
	return true
}

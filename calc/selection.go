package calc

import (
	"github.com/margay-project/margay/api/selector"
)

// selection is the policies with the same selector, which is matched once for all of them. selectionOf makes it, and
// dropEmptySelections removes it.
type selection struct {
	matcher
	policies policySet
	groups   map[*group]struct{} // whose members the selector matches; set by join and leave. nil: no such group
}

func (s *selection) selector() *selector.Selector { return s.policies.one.policy().selector }

// policySet is a set of policies. Most have one member, which needs no map.
type policySet struct {
	one  *keptPolicy
	more map[*keptPolicy]struct{}
}

func (s *policySet) put(k *keptPolicy) {
	if s.one == nil || s.one == k {
		s.one = k
		return
	}
	if s.more == nil {
		s.more = map[*keptPolicy]struct{}{}
	}
	s.more[k] = struct{}{}
}

func (s *policySet) remove(k *keptPolicy) {
	delete(s.more, k)
	if s.one != k {
		return
	}
	s.one = nil
	for next := range s.more {
		s.one = next
		delete(s.more, next)
		return
	}
}

func (s *policySet) empty() bool { return s.one == nil }

func (s *policySet) each(f func(*policy)) {
	if s.one != nil {
		f(s.one.policy())
	}
	for k := range s.more {
		f(k.policy())
	}
}

// rearrange makes the groups of a selection pending.
func (l *locals) rearrange(s *selection) {
	for grp := range s.groups {
		l.pendingGroups[grp] = struct{}{}
	}
}

// deselect takes a policy out of its selection, before the policy is replaced or removed.
func (l *locals) deselect(k *keptPolicy) {
	s := k.selection
	s.matcher.selector() // parse and keep it now: an empty selection has no policy from which it could be read
	s.policies.remove(k)
	if s.policies.empty() {
		l.emptySelections[s] = struct{}{}
	}
}

// selectionOf finds or makes the selection of a selector. A new one makes the endpoints pending that the selector matches.
func (l *locals) selectionOf(of *selector.Selector) *selection {
	print := printOf(l.prints, of.String())
	if s := l.selections[print]; s != nil {
		delete(l.emptySelections, s)
		return s
	}
	s := &selection{}
	s.owner = s
	l.selections[print] = s
	for _, id := range l.index.add(&s.matcher, of) {
		l.pending[l.byEntity[id].read.ID] = struct{}{}
	}
	return s
}

// dropEmptySelections removes the selections that have no policy left. The members of their groups become pending: each belongs to
// another group now.
func (l *locals) dropEmptySelections() {
	for s := range l.emptySelections {
		l.index.drop(&s.matcher)
		delete(l.selections, printOf(l.prints, s.matcher.selector().String()))
		for grp := range s.groups {
			for id := range grp.members {
				l.pending[id] = struct{}{}
			}
		}
	}
	l.emptySelections = emptied(l.emptySelections)
}

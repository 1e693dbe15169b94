package dataplane

import (
	"cmp"
	"net/netip"
	"strings"
)

// LearnedState tells the BGP speaker which learned routes the kernel has. It is valid on the loop that applies changes.
type LearnedState struct{ d *Driver }

// Learned returns the state of the learned routes.
func (d *Driver) Learned() LearnedState { return LearnedState{d} }

// InKernel returns the learned prefixes that the kernel does not have, and the next hops that have a way.
func (s LearnedState) InKernel() (missing []netip.Prefix, reached []netip.Addr) {
	l := &s.d.learned
	for prefix := range l.refused {
		missing = append(missing, prefix)
	}
	l.table.Missing(func(prefix netip.Prefix) { missing = append(missing, prefix) })
	for prefix := range l.pending { // not planned yet
		if _, wanted := l.table.Wants(prefix); !wanted && l.refused[prefix] == "" {
			missing = append(missing, prefix)
		}
	}
	for next, way := range l.resolved {
		if len(way.hops) > 0 {
			reached = append(reached, next)
		}
	}
	return missing, reached
}

// reaches says whether a next hop has a way.
func (s LearnedState) reaches(next netip.Addr) bool { return len(s.d.learned.resolved[next].hops) > 0 }

// Interfaces returns the names of the interfaces by which packets to a next hop leave.
func (s LearnedState) Interfaces(next netip.Addr) string {
	var names []string
	for _, hop := range s.d.learned.resolved[next].hops {
		names = append(names, s.d.plan.links[hop.Interface].Name)
	}
	return strings.Join(names, ", ")
}

// Of says whether the kernel has a learned prefix with a next hop: programmed, failed, waiting or not used, and why if it does not.
func (s LearnedState) Of(prefix netip.Prefix, next netip.Addr) (state, why string) {
	entry, wanted := s.d.learned.table.Wants(prefix)
	switch {
	case s.d.learned.refused[prefix] != "":
		return "not used", s.d.learned.refused[prefix]
	case !wanted:
		return "waiting", ""
	case !s.reaches(next):
		return "not used", cmp.Or(s.d.learned.resolved[next].err, "the way to its next hop is not known yet")
	case entry.Programmed:
		return "programmed", ""
	case entry.Error != nil:
		return "failed", entry.Error.Error()
	}
	return "waiting", ""
}

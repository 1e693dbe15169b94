package dataplane

import "net/netip"

// LearnedState tells the BGP speaker which learned routes the kernel has. It is valid on the loop that applies changes.
type LearnedState struct{ l *learned }

// Learned returns the state of the learned routes.
func (d *Driver) Learned() LearnedState { return LearnedState{&d.learned} }

// Missing calls f with each learned prefix that the kernel does not have.
func (s LearnedState) Missing(f func(netip.Prefix)) {
	for prefix := range s.l.refused {
		f(prefix)
	}
	s.l.table.Missing(f)
	for prefix := range s.l.pending { // not planned yet
		if _, wanted := s.l.table.Wants(prefix); !wanted && s.l.refused[prefix] == "" {
			f(prefix)
		}
	}
}

// Reaches says whether a next hop has a way.
func (s LearnedState) Reaches(next netip.Addr) bool { return len(s.l.resolved[next].hops) > 0 }

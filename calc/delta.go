package calc

import (
	"maps"
	"net/netip"
	"slices"
)

// Fold applies a Delta to the State. The first Delta of a Graph applies to the zero State.
func (s *State) Fold(d Delta) {
	fold(&s.Tiers, d.Tiers, d.TiersGone)
	fold(&s.Policies, d.Policies, d.PoliciesGone)
	fold(&s.Endpoints, d.Endpoints, d.EndpointsGone)
	fold(&s.Routes, d.Routes, d.RoutesGone)
	fold(&s.Pools, d.Pools, d.PoolsGone)
	s.foldSets(d)
	fold(&s.Problems, asSet(d.Problems), d.ProblemsGone)
	if d.BGP != nil {
		s.BGP = *d.BGP
	}
	if d.Config != nil {
		s.Config = *d.Config
	}
	if d.Ready != nil {
		s.Ready = *d.Ready
	}
}

func (s *State) foldSets(d Delta) {
	if s.Sets == nil {
		s.Sets = map[SetID]Members{}
	}
	for id, change := range d.Sets {
		if s.Sets[id] == nil {
			s.Sets[id] = Members{}
		}
		for _, p := range change.Removed {
			delete(s.Sets[id], p)
		}
		for _, p := range change.Added {
			s.Sets[id][p] = struct{}{}
		}
	}
	for _, id := range d.SetsGone {
		delete(s.Sets, id)
	}
}

func fold[K comparable, V any](m *map[K]V, changed map[K]V, gone []K) {
	if *m == nil {
		*m = map[K]V{}
	}
	for _, k := range gone {
		delete(*m, k)
	}
	maps.Copy(*m, changed)
}

func asSet(problems []Problem) map[Problem]struct{} {
	set := map[Problem]struct{}{}
	for _, p := range problems {
		set[p] = struct{}{}
	}
	return set
}

// Clone returns a copy that later Folds into s do not change.
func (s *State) Clone() *State {
	c := *s
	c.Tiers, c.Policies, c.Endpoints = maps.Clone(s.Tiers), maps.Clone(s.Policies), maps.Clone(s.Endpoints)
	c.Routes, c.Pools, c.Problems = maps.Clone(s.Routes), maps.Clone(s.Pools), maps.Clone(s.Problems)
	c.Sets = maps.Clone(s.Sets)
	for id, members := range c.Sets {
		c.Sets[id] = maps.Clone(members)
	}
	return &c // BGP, Config and the values in the maps are shared: nobody changes them
}

// Diff returns the Delta that makes b of a. With a nil a it is all of b as a change, also its zero values: the first Delta that a new
// receiver gets. The Delta shares values with b.
func Diff(a, b *State) (d Delta) {
	whole := a == nil
	if whole {
		a = &State{}
	}
	d.Tiers, d.TiersGone = diff(a.Tiers, b.Tiers, same)
	d.Policies, d.PoliciesGone = diff(a.Policies, b.Policies, Policy.equal)
	d.Endpoints, d.EndpointsGone = diff(a.Endpoints, b.Endpoints, Endpoint.equal)
	d.Routes, d.RoutesGone = diff(a.Routes, b.Routes, same)
	d.Pools, d.PoolsGone = diff(a.Pools, b.Pools, same)
	d.Sets, d.SetsGone = diffSets(a.Sets, b.Sets)
	added, gone := diff(a.Problems, b.Problems, same)
	d.Problems, d.ProblemsGone = slices.Collect(maps.Keys(added)), gone
	if whole || !a.BGP.equal(b.BGP) {
		d.BGP = &b.BGP
	}
	if whole || !a.Config.equal(b.Config) {
		d.Config = &b.Config
	}
	if whole || a.Ready != b.Ready {
		d.Ready = &b.Ready
	}
	return d
}

// diff returns the entries of b that are not in a or differ there, and the keys of a that are not in b.
func diff[K comparable, V any](a, b map[K]V, equal func(a, b V) bool) (changed map[K]V, gone []K) {
	for k, v := range b {
		if old, there := a[k]; there && equal(old, v) {
			continue
		}
		if changed == nil {
			changed = map[K]V{}
		}
		changed[k] = v
	}
	for k := range a {
		if _, still := b[k]; !still {
			gone = append(gone, k)
		}
	}
	return changed, gone
}

func diffSets(a, b map[SetID]Members) (changed map[SetID]SetDelta, gone []SetID) {
	for id, members := range b {
		old, there := a[id]
		d := SetDelta{Added: missing(members, old), Removed: missing(old, members)}
		if there && len(d.Added)+len(d.Removed) == 0 {
			continue
		}
		if changed == nil {
			changed = map[SetID]SetDelta{}
		}
		changed[id] = d
	}
	for id := range a {
		if _, still := b[id]; !still {
			gone = append(gone, id)
		}
	}
	return changed, gone
}

// missing returns the members that another set does not have.
func missing(members, from Members) (left []netip.Prefix) {
	for p := range members {
		if _, there := from[p]; !there {
			left = append(left, p)
		}
	}
	return left
}

// Empty reports whether the Delta changes nothing.
func (d Delta) Empty() bool {
	return len(d.Tiers)+len(d.TiersGone)+len(d.Policies)+len(d.PoliciesGone)+len(d.Sets)+len(d.SetsGone)+
		len(d.Endpoints)+len(d.EndpointsGone)+len(d.Routes)+len(d.RoutesGone)+len(d.Pools)+len(d.PoolsGone)+
		len(d.Problems)+len(d.ProblemsGone) == 0 && d.BGP == nil && d.Config == nil && d.Ready == nil
}

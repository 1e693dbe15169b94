package classifiertest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/calc"
)

// Change returns a state that differs from s in a few things. It shares equal values with s.
func Change(r *rand.Rand, s *calc.State, o Options) *calc.State {
	o = o.defaults()
	n := sharing(s)
	for range 1 + r.IntN(3) {
		changeOne(r, n, o)
	}
	Rearrange(n)
	return n
}

// sharing copies the maps of a state and shares their values.
func sharing(s *calc.State) *calc.State {
	return &calc.State{
		Tiers:     maps.Clone(s.Tiers),
		Policies:  maps.Clone(s.Policies),
		Sets:      maps.Clone(s.Sets),
		Endpoints: maps.Clone(s.Endpoints),
	}
}

// Transact returns a state with several changes that belong together: an endpoint with its address's
// sets, the addresses of a network set, addresses that change places, or any objects.
func Transact(r *rand.Rand, s *calc.State, o Options) *calc.State {
	o = o.defaults()
	n := sharing(s)
	switch r.IntN(6) {
	case 0:
		relabel(r, n)
		id := pick(r, endpoints(n))
		e := n.Endpoints[id]
		arrange(r, n, &e)
		n.Endpoints[id] = e
	case 1:
		relabel(r, n)
	case 2:
		for range 2 {
			relabel(r, n)
		}
	case 3:
		for range 3 {
			changeSet(r, n, o)
		}
	case 4:
		for range 2 + r.IntN(4) {
			changeOne(r, n, o)
		}
	case 5:
		relabel(r, n)
		changePolicy(r, n, o)
	}
	Rearrange(n)
	return n
}

// relabel moves an address, or all addresses of a net, to other sets.
func relabel(r *rand.Rand, s *calc.State) {
	a := randomNet(r)
	if r.IntN(4) > 0 {
		addr := randomAddr(r)
		a = netip.PrefixFrom(addr, addr.BitLen())
	}
	for _, id := range slices.Sorted(maps.Keys(s.Sets)) {
		m := maps.Clone(s.Sets[id])
		if _, in := m[a]; in {
			delete(m, a)
		} else if r.IntN(2) == 0 {
			m[a] = struct{}{}
		}
		s.Sets[id] = m
	}
}

func changeOne(r *rand.Rand, s *calc.State, o Options) {
	switch r.IntN(10) {
	case 0:
		t := randomTier(r, fmt.Sprintf("tier-%d", r.IntN(4)))
		s.Tiers[t.Name] = t
	case 1, 2:
		p := randomPolicy(r, s, o, r.IntN(o.Policies))
		s.Policies[p.ID] = p
	case 3, 4:
		changePolicy(r, s, o)
	case 5, 6:
		changeSet(r, s, o)
	case 7:
		e := randomEndpoint(r, s, r.IntN(o.Endpoints))
		s.Endpoints[e.ID] = e
	case 8:
		id := pick(r, endpoints(s))
		e := s.Endpoints[id]
		arrange(r, s, &e)
		s.Endpoints[id] = e
	case 9:
		removeOne(r, s)
	}
}

// changePolicy replaces, inserts or removes a rule.
func changePolicy(r *rand.Rand, s *calc.State, o Options) {
	id := pick(r, sortedPolicies(s))
	p := s.Policies[id]
	p.Ingress, p.Egress = slices.Clone(p.Ingress), slices.Clone(p.Egress)
	rules := &p.Ingress
	if r.IntN(2) == 0 {
		rules = &p.Egress
	}
	at := r.IntN(len(*rules) + 1)
	switch {
	case at < len(*rules) && r.IntN(3) == 0:
		*rules = slices.Delete(*rules, at, at+1)
	case at < len(*rules) && r.IntN(2) == 0:
		(*rules)[at] = randomRule(r, s, o)
	case len(*rules) < o.Rules:
		*rules = slices.Insert(*rules, at, randomRule(r, s, o))
	}
	s.Policies[id] = p
}

// changeSet makes members join and leave a set, or makes or removes a set.
func changeSet(r *rand.Rand, s *calc.State, o Options) {
	id := calc.SetID(fmt.Sprintf("set-%d", r.IntN(o.Sets)))
	m, known := s.Sets[id]
	switch {
	case !known:
		s.Sets[id] = randomMembers(r)
		return
	case len(s.Sets) > 1 && r.IntN(6) == 0:
		delete(s.Sets, id)
		return
	}
	m = maps.Clone(m)
	for range 1 + r.IntN(2) {
		if p := randomNet(r); r.IntN(3) > 0 {
			m[p] = struct{}{}
		} else if len(m) > 0 {
			delete(m, pick(r, slices.SortedFunc(maps.Keys(m), netip.Prefix.Compare)))
		}
	}
	s.Sets[id] = m
}

func removeOne(r *rand.Rand, s *calc.State) {
	switch r.IntN(3) {
	case 0:
		if id := pick(r, sortedPolicies(s)); id.Kind != calc.KindFailsafe {
			delete(s.Policies, id)
		}
	case 1:
		if all := endpoints(s); len(all) > 1 {
			delete(s.Endpoints, pick(r, all))
		}
	case 2:
		if names := slices.Sorted(maps.Keys(s.Tiers)); len(names) > 1 {
			delete(s.Tiers, pick(r, names))
		}
	}
}

func endpoints(s *calc.State) []calc.EndpointID {
	return slices.SortedFunc(maps.Keys(s.Endpoints), func(a, b calc.EndpointID) int {
		return compareStrings(a.Kind, b.Kind, a.Name, b.Name)
	})
}

// Diff returns the change from one state to the next.
func Diff(from, to *calc.State) *calc.Delta {
	d := calc.Diff(from, to)
	return &d
}

// Whole returns everything in a state as one change.
func Whole(s *calc.State) *calc.Delta {
	d := calc.Diff(nil, s)
	return &d
}

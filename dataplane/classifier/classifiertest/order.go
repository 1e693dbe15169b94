package classifiertest

import (
	"cmp"
	"slices"
	"strings"

	"github.com/margay-project/margay/calc"
)

// byTier arranges policies as calc does. It is a second definition on purpose: tests do not depend on the code that they
// test.
func byTier(s *calc.State, ids []calc.PolicyID) []calc.TierPolicies {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b calc.PolicyID) int {
		p, q := s.Policies[a], s.Policies[b]
		if p.Tier != q.Tier {
			return compareTiers(tierOf(s, p.Tier), tierOf(s, q.Tier))
		}
		return cmp.Or(compareOrders(p.Order, q.Order), strings.Compare(tieBreak(a), tieBreak(b)))
	})
	var out []calc.TierPolicies
	for _, id := range ids {
		tier := s.Policies[id].Tier
		if n := len(out); n == 0 || out[n-1].Tier != tier {
			out = append(out, calc.TierPolicies{Tier: tier})
		}
		last := &out[len(out)-1]
		last.Policies = append(last.Policies, id)
	}
	return out
}

func tierOf(s *calc.State, name string) calc.Tier {
	if t, known := s.Tiers[name]; known {
		return t
	}
	return calc.Tier{Name: name, Missing: true}
}

func tieBreak(id calc.PolicyID) string { return id.Name + "/" + id.Namespace + "/" + id.Kind }

func compareTiers(a, b calc.Tier) int {
	if a.Missing != b.Missing {
		if a.Missing {
			return 1
		}
		return -1
	}
	return cmp.Or(compareOrders(a.Order, b.Order), strings.Compare(a.Name, b.Name))
}

func compareOrders(a, b calc.Order) int {
	switch {
	case a.Set && b.Set:
		return cmp.Compare(a.Value, b.Value)
	case a.Set:
		return -1
	case b.Set:
		return 1
	}
	return 0
}

func compareStrings(pairs ...string) int {
	for i := 0; i < len(pairs); i += 2 {
		if c := strings.Compare(pairs[i], pairs[i+1]); c != 0 {
			return c
		}
	}
	return 0
}

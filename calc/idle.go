package calc

import (
	"slices"

	"github.com/margay-project/margay/api"
)

// IdlePolicy is a policy of the datastore that applies to no endpoint of this node.
type IdlePolicy struct {
	ID    PolicyID
	Tier  string
	Order Order
	Rules [2]int // how many, by direction
}

// CountIdle returns how many idle policies there were at the last Flush.
func (g *Graph) CountIdle() int {
	count := len(g.policies)
	for id := range g.active.refs {
		if id.Kind == api.KindGlobalNetworkPolicy || id.Kind == api.KindNetworkPolicy {
			count--
		}
	}
	return count
}

// Idle lists the idle policies in the order of evaluation. It unpacks every policy of the datastore, so use it rarely.
func (g *Graph) Idle() (idle []IdlePolicy) {
	for _, kept := range g.policies {
		p := kept.read
		if p == nil {
			p = &policy{}
			c := coder{text: kept.packed}
			c.policy(p) // its selector is not parsed, which would take longer than the rest
		}
		if g.active.refs[p.ID] > 0 {
			continue
		}
		rules := [2]int{len(p.rules[Ingress].split()), len(p.rules[Egress].split())}
		if p.denies {
			rules = [2]int{1, 1}
		}
		idle = append(idle, IdlePolicy{p.ID, p.Tier, p.Order, rules})
	}
	slices.SortFunc(idle, func(a, b IdlePolicy) int {
		return Policy{ID: a.ID, Tier: a.Tier, Order: a.Order}.compareIn(g.tiers, Policy{ID: b.ID, Tier: b.Tier, Order: b.Order})
	})
	return idle
}

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
	Rules [2]int // by direction
}

// CountIdle is how many of them there are as of the last Flush.
func (g *Graph) CountIdle() int {
	count := len(g.policies)
	for id := range g.active.refs {
		if id.Kind == api.KindGlobalNetworkPolicy || id.Kind == api.KindNetworkPolicy {
			count--
		}
	}
	return count
}

// Idle lists them in the order of evaluation. Use it rarely: it reads every policy of the datastore.
func (g *Graph) Idle() (idle []IdlePolicy) {
	for _, kept := range g.policies {
		p := kept.read
		if p == nil {
			p = &policy{}
			c := coder{text: kept.packed}
			c.policy(p) // without its selector, which takes longer than all else
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

package calc

import (
	"cmp"
	"math"
	"slices"

	"github.com/margay-project/margay/api"
)

// pack is the policy in one string; unpackPolicy reads it.
func (p *policy) pack() string {
	size := 32 + len(p.ID.Namespace) + len(p.ID.Name) + len(p.Tier) + len(p.rules[Ingress]) + len(p.rules[Egress]) +
		len(p.selects.endpoints) + len(p.selects.namespaces) + len(p.selects.serviceAccounts)
	c := coder{writing: true, bytes: make([]byte, 0, size)}
	c.policy(p)
	return string(c.bytes)
}

func unpackPolicy(packed string) *policy {
	p := &policy{}
	c := coder{text: packed}
	c.policy(p)
	p.selector, _ = p.selects.within(p.ID.Namespace)
	if p.denies {
		p.Ingress, p.Egress = denyAll(), denyAll()
	}
	return p
}

// policy codes a policy without the fields that follow from others (selector, rules that deny), and without its problems, which are
// reported when it is read.
func (c *coder) policy(p *policy) {
	given := c.given(bits(p.ID.Kind == api.KindNetworkPolicy, p.Tier != defaultTier, p.selects.endpoints != "", p.selects.namespaces != "",
		p.selects.serviceAccounts != "", p.Order.Set, p.denies))
	p.ID.Kind, p.Tier = api.KindGlobalNetworkPolicy, cmp.Or(p.Tier, defaultTier)
	if given.next() {
		p.ID.Kind = api.KindNetworkPolicy
		c.string(&p.ID.Namespace)
	}
	c.string(&p.ID.Name)
	c.optionalString(given.next(), &p.Tier)
	c.optionalString(given.next(), &p.selects.endpoints)
	c.optionalString(given.next(), &p.selects.namespaces)
	c.optionalString(given.next(), &p.selects.serviceAccounts)
	if p.Order.Set = given.next(); p.Order.Set {
		bits := int(math.Float64bits(p.Order.Value))
		c.int(&bits)
		p.Order.Value = math.Float64frombits(uint64(bits))
	}
	p.denies = given.next()
	c.stages(&p.stages)
	for dir := range p.rules {
		c.string((*string)(&p.rules[dir]))
	}
}

func (c *coder) stages(stages *[Stages][2]bool) {
	given := c.given(bits(slices.Concat(stages[0][:], stages[1][:], stages[2][:], stages[3][:])...))
	for stage := range stages {
		for dir := range stages[stage] {
			stages[stage][dir] = given.next()
		}
	}
}

package classifier

import (
	"fmt"
	"maps"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// policy is a policy, profile or failsafe list, with its rules as lists. A profile has no lists here: see profileList.
type policy struct {
	calc.Policy
	lists [2]*list // by direction; nil until positionPolicy
	rank  int      // of a failsafe list: its place among them, from 0; set by rankFailsafes
}

// tier is a tier that the state has, or that a policy or endpoint names.
type tier struct {
	calc.Tier
	known bool     // the state has it; otherwise dropTiers removes it once nothing names it
	ends  [2]*list // by direction: the list after its policies
}

// merge brings a Delta into the classifier's state. It leaves out sets, see mix.go. It returns the endpoints whose
// interfaces must lose their entries, also those for which a former removal failed.
func (c *Classifier) merge(d *calc.Delta) (gone []calc.EndpointID) {
	for _, t := range d.Tiers {
		c.setTier(t, true)
	}
	for _, name := range d.TiersGone {
		c.setTier(calc.Tier{Name: name, Missing: true}, false)
	}
	for _, id := range d.PoliciesGone {
		c.removePolicy(id)
	}
	for _, e := range d.Endpoints {
		c.rankFailsafes(e)
	}
	for _, p := range d.Policies {
		c.setPolicy(p)
	}
	for _, e := range d.Endpoints {
		c.setEndpoint(e)
	}
	for _, id := range d.EndpointsGone {
		c.removeEndpoint(id)
	}
	for id := range c.leaving {
		gone = append(gone, id)
	}
	if len(d.Policies)+len(d.Tiers)+len(d.PoliciesGone)+len(d.TiersGone) > 0 {
		maps.Copy(c.pendingEndpoints, c.closed)
	}
	return gone
}

// resolvePending finds the rulesets of all pending endpoints.
func (c *Classifier) resolvePending() {
	c.lastResolved = [layout.Stages]*endpoint{}
	for e := range c.pendingEndpoints {
		c.resolve(e)
	}
}

// tierNamed returns a tier. One that the state does not have is made, as missing: it comes last and denies.
func (c *Classifier) tierNamed(name string) *tier {
	t := c.tiers[name]
	if t == nil {
		t = &tier{Tier: calc.Tier{Name: name, Missing: true}}
		c.tiers[name] = t
		for dir := range t.ends {
			t.ends[dir] = c.newList(t.position(true, calc.Direction(dir)))
			c.setRules(t.ends[dir], tierEnd(t.Tier, calc.Direction(dir)))
		}
	}
	return t
}

// position returns where the policies of a tier stand, or its end.
func (t *tier) position(end bool, dir calc.Direction) position {
	where := t.Tier
	where.Default = ""
	return position{group: tiers, tier: where, end: end, egress: dir == calc.Egress}
}

// setTier takes over a tier, and moves its policies if its place in the order has changed.
func (c *Classifier) setTier(n calc.Tier, known bool) {
	t := c.tierNamed(n.Name)
	t.Tier, t.known = n, known
	for _, p := range c.policies {
		if p.lists[0] != nil && p.ID.Kind != calc.KindFailsafe && p.Tier == n.Name {
			c.positionPolicy(p)
		}
	}
	for dir, l := range t.ends {
		c.moveList(l, t.position(true, calc.Direction(dir)))
		c.setRules(l, tierEnd(n, calc.Direction(dir)))
	}
}

// dropTiers removes the tiers that the state does not have and that nothing names.
func (c *Classifier) dropTiers() {
	for name, t := range c.tiers {
		if t.known || len(t.ends[0].rulesets)+len(t.ends[1].rulesets) > 0 || c.inTier(name) {
			continue
		}
		delete(c.tiers, name)
		c.order.remove(t.ends[0])
		c.order.remove(t.ends[1])
	}
}

// inTier says whether some policy is in a tier.
func (c *Classifier) inTier(name string) bool {
	for _, p := range c.policies {
		if p.lists[0] != nil && p.ID.Kind != calc.KindFailsafe && p.Tier == name {
			return true
		}
	}
	return false
}

// setPolicy takes over a policy and its rules.
func (c *Classifier) setPolicy(n calc.Policy) {
	p := c.policies[n.ID]
	if p == nil {
		p = &policy{}
		c.policies[n.ID] = p
	}
	p.Policy = n
	if n.ID.Kind == api.KindProfile {
		for _, list := range c.profiles {
			for _, name := range list.names {
				if name == n.ID.Name {
					c.setProfiles(list)
					break
				}
			}
		}
		return
	}
	c.positionPolicy(p)
	for dir, l := range p.lists {
		c.setRules(l, policyRules(&p.Policy, calc.Direction(dir)))
	}
}

// positionPolicy makes the lists of a policy, or moves them to where they belong now.
func (c *Classifier) positionPolicy(p *policy) {
	for dir := range p.lists {
		to := position{group: failsafes}
		to.order = calc.Order{Value: float64(p.rank), Set: true}
		if p.ID.Kind != calc.KindFailsafe {
			to = c.tierNamed(p.Tier).position(false, calc.Direction(dir))
			to.order = p.Order
		}
		to.egress = dir == int(calc.Egress)
		to.name = p.ID.TieBreak()
		if p.lists[dir] == nil {
			p.lists[dir] = c.newList(to)
		} else {
			c.moveList(p.lists[dir], to)
		}
	}
}

// rankFailsafes learns the order of the failsafe lists. Every endpoint lists them in the same order, under the tier name
// "".
func (c *Classifier) rankFailsafes(e calc.Endpoint) {
	for _, s := range stages {
		for _, t := range e.Policies[s.stage][s.dir] {
			if t.Tier != "" {
				continue
			}
			for rank, id := range t.Policies {
				p := c.policies[id]
				if p == nil {
					p = &policy{Policy: calc.Policy{ID: id}}
					c.policies[id] = p
				}
				if p.rank != rank {
					p.rank = rank
					c.positionPolicy(p)
				}
			}
		}
	}
}

// removePolicy removes a policy. Endpoints that still name it will be closed.
func (c *Classifier) removePolicy(id calc.PolicyID) {
	p := c.policies[id]
	if p == nil {
		return
	}
	delete(c.policies, id)
	for _, l := range p.lists {
		if l != nil {
			c.resolveAgain(l)
			c.order.remove(l)
			l.problem = fmt.Sprintf("policy %s is not known", id.Name)
		}
	}
	for _, list := range c.profiles {
		for _, name := range list.names {
			if id.Kind == api.KindProfile && name == id.Name {
				c.resolveAgain(list.lists[0])
				c.resolveAgain(list.lists[1])
			}
		}
	}
}

// setEndpoint takes over an endpoint. If it is still leaving, it keeps its committed and uncertain masks.
func (c *Classifier) setEndpoint(n calc.Endpoint) {
	e := c.endpoints[n.ID]
	if e == nil {
		e = c.leaving[n.ID]
		delete(c.leaving, n.ID)
	}
	if e == nil {
		e = &endpoint{}
	}
	e.Endpoint = n
	c.endpoints[n.ID] = e
	c.pendingEndpoints[e] = struct{}{}
}

// removeEndpoint moves an endpoint to leaving. Its masks stay referenced until a Sweep hears that its interfaces have
// lost them.
func (c *Classifier) removeEndpoint(id calc.EndpointID) {
	e := c.endpoints[id]
	if e == nil {
		return
	}
	delete(c.endpoints, id)
	delete(c.pendingEndpoints, e)
	delete(c.closed, e)
	for i := range e.rulesets {
		c.attach(e, i, nil)
	}
	c.releaseProfiles(e.profiles)
	e.profiles = nil
	c.leaving[id] = e
}

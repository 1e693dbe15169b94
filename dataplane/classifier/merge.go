package classifier

import (
	"fmt"
	"maps"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// policy is a policy and its lists; a profile has none, see profileList.
type policy struct {
	calc.Policy
	lists [2]*list
	rank  int // of a failsafe list: its place among them
}

// tier is a tier that policies or endpoints name.
type tier struct {
	calc.Tier
	known bool // to calc
	ends  [2]*list
}

// merge takes over what changed, but for the members of sets that rules are about.
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

func (c *Classifier) resolvePending() {
	c.lastResolved = [layout.Stages]*endpoint{}
	for e := range c.pendingEndpoints {
		c.resolve(e)
	}
}

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

func (t *tier) position(end bool, dir calc.Direction) position {
	where := t.Tier
	where.Default = ""
	return position{group: tiers, tier: where, end: end, egress: dir == calc.Egress}
}

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

// dropTiers forgets the tiers that calc does not know and nothing names.
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

// positionPolicy puts the lists of a policy where they belong.
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

// rankFailsafes learns the order of the failsafe lists: it is that of the endpoints, the same for all of them.
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

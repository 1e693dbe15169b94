package classifier

import (
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// profileList is the distinct lists of profiles that endpoints have; its rules and their end are one stretch of slots.
type profileList struct {
	key   string
	names []string
	lists [2]*list
	refs  int
}

// acquireProfiles returns the list of some profiles with one more user. A name counts where it is first.
func (c *Classifier) acquireProfiles(names []string) *profileList {
	names = distinct(names)
	key := strings.Join(names, "\x00")
	p := c.profiles[key]
	if p == nil {
		p = &profileList{key: key, names: names}
		for dir := range p.lists {
			p.lists[dir] = c.newList(position{group: profiles, name: key, egress: dir == int(calc.Egress)})
		}
		c.profiles[key] = p
		c.setProfiles(p)
	}
	p.refs++
	return p
}

func distinct(names []string) (out []string) {
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// setProfiles brings the rules of a list of profiles up to date.
func (c *Classifier) setProfiles(p *profileList) {
	var ps []*calc.Policy
	for _, name := range p.names {
		if known := c.policies[calc.PolicyID{Kind: api.KindProfile, Name: name}]; known != nil {
			ps = append(ps, &known.Policy)
		}
	}
	for dir, l := range p.lists {
		c.setRules(l, profileRules(ps, calc.Direction(dir)))
	}
}

func (c *Classifier) releaseProfiles(p *profileList) {
	if p == nil {
		return
	}
	if p.refs--; p.refs > 0 {
		return
	}
	delete(c.profiles, p.key)
	for _, l := range p.lists {
		c.order.remove(l)
	}
}

// profileRules are what the list of some profiles should have. There is nothing to pass to, so Pass denies.
func profileRules(ps []*calc.Policy, dir calc.Direction) []wantedRule {
	var out []wantedRule
	for _, p := range ps {
		for _, w := range policyRules(p, dir) {
			if w.action == api.Pass {
				w.action = api.Deny
			}
			out = append(out, w)
		}
	}
	id := calc.PolicyID{Kind: calc.KindEnd}
	return append(out, wantedRule{id: calc.RuleID{Policy: id, Direction: dir, Index: -1}, action: api.Deny})
}

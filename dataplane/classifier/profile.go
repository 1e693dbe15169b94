package classifier

import (
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// profileList is one list of profiles that endpoints name. Its rules are one list in each direction, with the deny
// after the last profile: the order of profiles is the endpoint's own, so profiles have no place in the order of the
// node.
type profileList struct {
	key   string // the names, joined
	names []string
	lists [2]*list // by direction
	refs  int      // endpoints that have it
}

// acquireProfiles returns the list of some profiles with one more reference. A name that comes twice counts where it is
// first.
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

// distinct keeps the first of equal names.
func distinct(names []string) (out []string) {
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// setProfiles brings the rules of a list of profiles up to date. Profiles that are not known yet have no rules; resolve
// closes endpoints that name them.
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

// releaseProfiles gives back a reference. The last one takes the lists out of the order.
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

// profileRules returns the rules that a list of profiles should have. Nothing follows the profiles, so their Pass
// denies.
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

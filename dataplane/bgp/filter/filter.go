// Package filter judges routes by the rules of BGPFilters.
//
// It defines the meaning of a rule. The Speaker judges this node's own paths with it. Routes of peers are judged inside of GoBGP, by
// statements that a test compares with this package.
package filter

import (
	"net/netip"
	"path"
	"slices"

	"github.com/margay-project/margay/calc"
)

// Route is a route as rules see it.
type Route struct {
	Prefix      netip.Prefix
	Communities []string // standard and large ones, as text
	ASPath      []uint32
	Priority    int
	Interface   string // by which packets leave
	NoWay       bool   // the interface is not known: of the rules with one, those that reject match
	Learned     bool   // from a peer
}

// Judge returns the decision of the first rule that matches the route. It reports false if none does.
func Judge(rules []calc.RouteRule, r Route) (decision calc.RouteRule, matched bool) {
	for _, rule := range rules {
		if matches(rule, r) {
			return rule, true
		}
	}
	return calc.RouteRule{}, false
}

func matches(rule calc.RouteRule, r Route) bool {
	return (!rule.Within.IsValid() || rule.Within.Addr().Is4() == r.Prefix.Addr().Is4() && inside(rule, r.Prefix) != rule.Outside) &&
		(!rule.Learned || r.Learned) &&
		(rule.Interface == "" || Named(rule.Interface, r.Interface) || r.NoWay && !rule.Accept) &&
		(rule.Community == "" || slices.Contains(r.Communities, rule.Community)) &&
		(len(rule.ASPath) <= len(r.ASPath) && slices.Equal(rule.ASPath, r.ASPath[:len(rule.ASPath)])) &&
		(rule.Priority == 0 || rule.Priority == r.Priority)
}

func inside(rule calc.RouteRule, p netip.Prefix) bool {
	return rule.Within.Contains(p.Addr()) && rule.Shortest <= p.Bits() && p.Bits() <= rule.Longest
}

// Named reports whether an interface has a name like the pattern. A route without an interface matches no pattern, as in BIRD.
func Named(pattern, name string) bool {
	like, err := path.Match(pattern, name)
	return err == nil && like && name != ""
}

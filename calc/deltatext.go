package calc

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Text is the Delta for people, and for tests that compare text: lines of State.Text in the same order, with a + in front of values that are
// new or different, and a - in front of those that are gone. If anything in a policy, an endpoint, BGP or the configuration changed, all of
// it is printed. Of a set only the members that it gains and loses are.
func (d Delta) Text() string {
	var t text
	if d.Ready != nil {
		t.change("+", func(t *text) { t.line(when(!*d.Ready, "not"), "ready") })
	}
	for _, tier := range d.sortedTiers() {
		t.change("+", func(t *text) { t.tier(tier) })
	}
	for _, name := range slices.Sorted(slices.Values(d.TiersGone)) {
		t.line("- tier", name)
	}
	for _, p := range d.sortedPolicies() {
		t.change("+", func(t *text) { t.policy(p) })
	}
	for _, id := range slices.SortedFunc(slices.Values(d.PoliciesGone), PolicyID.Compare) {
		t.line("- policy", id.key().String())
	}
	t.sets(d)
	for _, e := range d.sortedEndpoints() {
		t.change("+", func(t *text) { t.endpoint(e) })
	}
	for _, id := range d.sortedEndpointsGone() {
		t.line("- endpoint", id.String())
	}
	for _, p := range sortedPrefixes(d.Routes) {
		t.change("+", func(t *text) { t.route(p, d.Routes[p]) })
	}
	for _, p := range sorted(d.RoutesGone) {
		t.line("- route", p.String())
	}
	for _, p := range sortedPrefixes(d.Pools) {
		t.change("+", func(t *text) { t.pool(p, d.Pools[p]) })
	}
	for _, p := range sorted(d.PoolsGone) {
		t.line("- pool", p.String())
	}
	if d.BGP != nil {
		t.change("+", func(t *text) { t.bgp(*d.BGP) })
	}
	if d.Config != nil {
		t.change("+", func(t *text) {
			t.line("config fields set:", fmt.Sprint(len(d.Config.Raw)))
			t.config(*d.Config)
		})
	}
	for _, p := range sortedProblems(d.Problems) {
		t.change("+", func(t *text) { t.problem(p) })
	}
	for _, p := range sortedProblems(d.ProblemsGone) {
		t.change("-", func(t *text) { t.problem(p) })
	}
	return t.String()
}

// change writes lines with a sign in front of each.
func (t *text) change(sign string, write func(*text)) {
	var lines text
	write(&lines)
	for line := range strings.Lines(lines.String()) {
		t.WriteString(sign + " " + line)
	}
}

func (t *text) sets(d Delta) {
	for _, id := range slices.Sorted(maps.Keys(d.Sets)) {
		change := d.Sets[id]
		if len(change.Added) > 0 || len(change.Removed) == 0 {
			t.line("+ set", string(id)+":", join(sorted(change.Added)))
		}
		if len(change.Removed) > 0 {
			t.line("- from set", string(id)+":", join(sorted(change.Removed)))
		}
	}
	for _, id := range slices.Sorted(slices.Values(d.SetsGone)) {
		t.line("- set", string(id))
	}
}

func sorted(prefixes []netip.Prefix) []netip.Prefix {
	return slices.SortedFunc(slices.Values(prefixes), comparePrefixes)
}

func (d Delta) sortedTiers() []Tier {
	return slices.SortedFunc(maps.Values(d.Tiers), Tier.Compare)
}

// sortedPolicies sorts by the name of the tier, because a Delta lacks the orders of tiers that did not change.
func (d Delta) sortedPolicies() []Policy {
	return slices.SortedFunc(maps.Values(d.Policies), func(p, q Policy) int {
		return cmp.Or(strings.Compare(p.Tier, q.Tier), p.Order.Compare(q.Order), p.ID.Compare(q.ID))
	})
}

func (d Delta) sortedEndpoints() []Endpoint {
	return slices.SortedFunc(maps.Values(d.Endpoints), func(a, b Endpoint) int {
		return strings.Compare(a.ID.String(), b.ID.String())
	})
}

func (d Delta) sortedEndpointsGone() []EndpointID {
	return slices.SortedFunc(slices.Values(d.EndpointsGone), func(a, b EndpointID) int {
		return strings.Compare(a.String(), b.String())
	})
}

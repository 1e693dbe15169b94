package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// closed warns of endpoints without a profile that no policy selects in some direction: nothing passes there.
func (v *view) closed(ctx context.Context) {
	bare := v.which(func(o api.Object) bool { return isEndpoint(o) && len(profilesOf(o)) == 0 })
	if len(bare) == 0 || !v.read(ctx, policyKinds...) {
		return
	}
	survey := v.survey()
	for _, o := range bare[:min(len(bare), mostMatches/v.policies())] {
		var dirs []string
		for _, dir := range survey.Unjudged(api.KeyOf(o)) {
			dirs = append(dirs, dir.String())
		}
		if len(dirs) == 0 {
			continue
		}
		but := ""
		if _, host := o.(*api.HostEndpoint); host {
			but = " but the failsafe ports"
		}
		v.add(o, "it has no profile and no policy selects it for %s, so nothing%s passes there. Apply a policy that selects it and allows the traffic that "+
			"must pass, or give it a profile: %s allows everything", strings.Join(dirs, " or "), but, defaultAllow)
	}
}

// defaultDeny warns of policies that cut off endpoints at the end of their tier. If the datastore has endpoints, it counts those
// that no other policy opens, and does not warn if there are none.
func (v *view) defaultDeny(ctx context.Context) {
	if !slices.ContainsFunc(v.written, func(o api.Object) bool { _, may := api.DefaultDenyOf(o, api.Deny); return may }) {
		return
	}
	looked := v.read(ctx, api.KindTier)
	ends := v.endsOfTiers()
	suspects := v.which(func(o api.Object) bool { _, is := api.DefaultDenyOf(o, ends[tierOf(o)]); return is })
	if len(suspects) == 0 {
		return
	}
	looked = looked && v.read(ctx, policyKinds...) && v.readEndpoints(ctx, mostEndpoints)
	var survey *calc.Survey
	if looked {
		survey = v.survey()
	}
	for _, o := range suspects {
		d, _ := api.DefaultDenyOf(o, ends[tierOf(o)])
		if looked {
			v.cutOff(survey, o, d)
		} else {
			v.add(o, "%s", d.Warning(""))
		}
	}
}

// endsOfTiers returns the default actions of the tiers that were read or written.
func (v *view) endsOfTiers() map[string]api.Action {
	ends := map[string]api.Action{}
	for _, u := range v.updates() {
		if tier, ok := u.Object.(*api.Tier); ok && tier.Spec.DefaultAction != nil {
			ends[tier.Name] = *tier.Spec.DefaultAction
		}
	}
	return ends
}

func tierOf(o api.Object) string {
	spec, _, _ := api.PolicyOf(o)
	return spec.Tier
}

// cutOff warns of a policy that cuts off all or some of the existing endpoints that it selects.
func (v *view) cutOff(survey *calc.Survey, o api.Object, d api.DefaultDeny) {
	directions := d.Directions
	for len(directions) > 0 {
		cut, selected := survey.CutOff(api.KeyOf(o), directionOf(directions[0]))
		same := []api.PolicyType{directions[0]}
		for _, other := range directions[1:] {
			if also, _ := survey.CutOff(api.KeyOf(o), directionOf(other)); slices.Equal(also, cut) {
				same = append(same, other)
			}
		}
		directions = slices.DeleteFunc(slices.Clone(directions), func(t api.PolicyType) bool { return slices.Contains(same, t) })
		d.Directions = same
		switch {
		case selected == 0 || len(cut) == selected:
			v.add(o, "%s", d.Warning(""))
		case len(cut) > 0:
			v.add(o, "%s", d.Warning(fmt.Sprintf("%d of the %d endpoints that it selects (%s)", len(cut), selected, few(keyTexts(cut)))))
		}
	}
}

func directionOf(t api.PolicyType) calc.Direction {
	if t == api.Egress {
		return calc.Egress
	}
	return calc.Ingress
}

// unreached warns of policies whose rules are never reached, because something before them decides every packet. It runs only in
// datastores of moderate size, because it has to be checked for every policy that is written.
func (v *view) unreached(ctx context.Context) {
	const mostPolicies = 1000
	policies := v.which(func(o api.Object) bool { return len(asked(o)) > 0 })
	if len(policies) == 0 || !v.read(ctx, api.KindTier) || !v.readAtMost(ctx, mostPolicies, policyKinds...) {
		return
	}
	survey := v.survey()
	if !slices.ContainsFunc(policies, func(o api.Object) bool {
		return slices.ContainsFunc(asked(o), func(dir calc.Direction) bool { return survey.MayBeUnreached(api.KeyOf(o), dir) })
	}) || !v.readEndpoints(ctx, mostEndpoints/10) {
		return
	}
	survey = v.survey()
	for _, o := range policies {
		for _, dir := range asked(o) {
			by, endpoint, unreached := survey.Unreached(api.KeyOf(o), dir)
			if !unreached {
				continue
			}
			decider, remedy := by.String(), "Give this policy a lower order than that one, or narrow that one"
			if by.Kind == api.KindTier {
				decider, remedy = "the end of tier "+by.Name, "Give that tier the defaultAction Pass, or move this policy to an earlier tier"
			}
			v.add(o, "its %v rules are never reached: for each endpoint that it selects, something before it decides every packet; for %v this is %s. %s", dir,
				endpoint, decider, remedy)
		}
	}
}

// asked returns the directions in which a policy has more than a single rule that matches every packet. Such a rule is often
// meant only for endpoints that no other policy decides.
func asked(o api.Object) (dirs []calc.Direction) {
	spec, staged, ok := api.PolicyOf(o)
	if !ok || staged != "" {
		return nil
	}
	for dir, rules := range [][]api.Rule{calc.Ingress: spec.Ingress, calc.Egress: spec.Egress} {
		if len(rules) > 1 || len(rules) == 1 && api.SumUp(rules).Rest == "" {
			dirs = append(dirs, calc.Direction(dir))
		}
	}
	return dirs
}

// onlyOfHosts warns of policies with preDNAT or doNotTrack that select only workload endpoints: only host endpoints have
// these stages.
func (v *view) onlyOfHosts(ctx context.Context) {
	suspects := v.which(func(o api.Object) bool {
		spec, staged, ok := api.PolicyOf(o)
		return ok && staged == "" && (spec.PreDNAT || spec.DoNotTrack)
	})
	if len(suspects) == 0 || !v.readEndpoints(ctx, mostEndpoints) {
		return
	}
	survey := v.survey()
	for _, o := range suspects {
		if hosts, workloads := survey.Selected(api.KeyOf(o)); hosts == 0 && workloads > 0 {
			v.add(o, "it has no effect: policies with preDNAT or doNotTrack are for host endpoints, and it selects none, only %d workload endpoints. "+
				"Correct its selector, or remove preDNAT or doNotTrack", workloads)
		}
	}
}

// unaddressed warns of rules whose selectors match only objects without an address.
func (v *view) unaddressed(ctx context.Context) {
	asking := v.which(func(o api.Object) bool { return asksBySelector(o) })
	if len(asking) == 0 || !v.read(ctx, api.KindHostEndpoint, api.KindProfile) {
		return
	}
	if !slices.ContainsFunc(v.updates(), func(u api.Update) bool {
		h, ok := u.Object.(*api.HostEndpoint)
		return ok && len(h.Spec.ExpectedIPs) == 0
	}) {
		return
	}
	if !v.readEndpoints(ctx, mostEndpoints) || !v.readAtMost(ctx, mostEndpoints, api.KindGlobalNetworkSet, api.KindNetworkSet) {
		return
	}
	survey := v.survey()
	for _, o := range asking {
		for _, u := range survey.Unaddressed(api.KeyOf(o)) {
			if !slices.ContainsFunc(u.Matches, func(k api.Key) bool { return k.Kind == api.KindHostEndpoint }) {
				continue // only sets without networks: the user sees that they are empty
			}
			v.add(o, "the selectors of spec.%v[%d].%s match only objects without an address, such as host endpoints without expectedIPs (%s), so "+
				"the rule matches no packet. Give these objects addresses (expectedIPs), or match nets", u.Direction, u.Rule, u.Side, few(keyTexts(u.Matches)))
		}
	}
}

// asksBySelector says whether a rule of an object matches addresses by a selector.
func asksBySelector(o api.Object) bool {
	ask := func(r api.Rule) bool {
		return r.Source.Selector+r.Source.NamespaceSelector+r.Destination.Selector+r.Destination.NamespaceSelector != ""
	}
	if profile, ok := o.(*api.Profile); ok {
		return slices.ContainsFunc(profile.Spec.Ingress, ask) || slices.ContainsFunc(profile.Spec.Egress, ask)
	}
	spec, staged, ok := api.PolicyOf(o)
	return ok && staged == "" && (slices.ContainsFunc(spec.Ingress, ask) || slices.ContainsFunc(spec.Egress, ask))
}

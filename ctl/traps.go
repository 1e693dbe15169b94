package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// trap is a warning about an object that only the rest of the datastore can tell.
type trap struct {
	about api.Key
	text  string
}

// tellTraps tells of the traps in objects that were written. It is called once, after the last of them: what an endpoint lacks
// may come later in the same input.
func (s *session) tellTraps(ctx context.Context, st store, written []api.Object) {
	if ctx.Err() != nil {
		return
	}
	v := newView(st, written)
	v.traps(ctx)
	for _, line := range trapLines(v.found) {
		fmt.Fprint(s.stderr, line)
	}
}

// trapLines are the lines about traps, one for each text.
func trapLines(found []trap) (lines []string) {
	var texts []string
	about := map[string][]api.Key{}
	for _, t := range found {
		if about[t.text] == nil {
			texts = append(texts, t.text)
		}
		about[t.text] = append(about[t.text], t.about)
	}
	for _, text := range texts {
		more := ""
		if n := len(about[text]) - 1; n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		lines = append(lines, fmt.Sprintf("warning: %v%s: %s\n", about[text][0], more, text))
	}
	return lines
}

func (v *view) add(o api.Object, format string, args ...any) {
	v.found = append(v.found, trap{api.KeyOf(o), fmt.Sprintf(format, args...)})
}

// traps finds them. What cannot be read, or is too much to look through, is not told of.
func (v *view) traps(ctx context.Context) {
	v.nodes(ctx)
	v.profiles(ctx)
	v.closed(ctx)
	v.defaultDeny(ctx)
	v.unaddressed(ctx)
}

// nodes tells of objects for a node that does not exist: no agent would ever use them.
func (v *view) nodes(ctx context.Context) {
	exists := v.existence(ctx, "Node", func(o api.Object) []string { return []string{nodeOf(o)} })
	for _, o := range v.written {
		node := nodeOf(o)
		if node == "" || exists(node) {
			continue
		}
		effect := "this endpoint protects nothing"
		switch o.(type) {
		case *api.WorkloadEndpoint:
			effect = "nothing reaches this endpoint and no policy judges it"
		case *api.BGPPeer:
			effect = "nobody speaks BGP with this peer"
		case *api.FelixConfiguration:
			effect = "nobody uses these settings"
		}
		v.add(o, "there is no Node %s, so %s until felix runs under that name; margayctl get nodes lists those that there are", node, effect)
	}
}

// nodeOf is the one node that an object is for; empty if it is for any.
func nodeOf(o api.Object) string {
	switch o := o.(type) {
	case *api.HostEndpoint:
		return o.Spec.Node
	case *api.WorkloadEndpoint:
		return o.Spec.Node
	case *api.BGPPeer:
		return o.Spec.Node
	case *api.FelixConfiguration:
		if name, ok := strings.CutPrefix(o.Name, "node."); ok {
			return name
		}
	}
	return ""
}

// profiles tells of endpoints that name a profile that does not exist.
func (v *view) profiles(ctx context.Context) {
	exists := v.existence(ctx, "Profile", profilesOf)
	for _, o := range v.written {
		for _, name := range profilesOf(o) {
			if name != defaultAllow && !exists(name) {
				v.add(o, "there is no Profile %s, and a profile that does not exist denies whatever nothing before it decides: create it, "+
					"or take it out of spec.profiles", name)
			}
		}
	}
}

// defaultAllow is a profile that is always there and never stored.
const defaultAllow = "projectcalico-default-allow"

func profilesOf(o api.Object) []string {
	switch o := o.(type) {
	case *api.HostEndpoint:
		return o.Spec.Profiles
	case *api.WorkloadEndpoint:
		return o.Spec.Profiles
	}
	return nil
}

// closed tells of endpoints without a profile that no policy selects in some direction: nothing passes there.
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
		v.add(o, "it has no profile and no policy selects it for %s, so nothing%s passes there. Apply a policy that selects it and allows what "+
			"must pass, or give it a profile: %s allows everything", strings.Join(dirs, " and "), but, defaultAllow)
	}
}

// defaultDeny tells of policies that cut off endpoints at the end of their tier. With endpoints in the datastore it counts those
// that no other policy opens; a policy that cuts off none of them is left alone.
func (v *view) defaultDeny(ctx context.Context) {
	if !slices.ContainsFunc(v.written, func(o api.Object) bool { _, may := api.DefaultDenyOf(o, api.Deny); return may }) {
		return
	}
	looked := v.read(ctx, "Tier")
	ends := v.endsOfTiers()
	suspects := v.which(func(o api.Object) bool { _, is := api.DefaultDenyOf(o, ends[tierOf(o)]); return is })
	if len(suspects) == 0 {
		return
	}
	looked = looked && v.read(ctx, policyKinds...) && v.read(ctx, "Profile") && v.readAtMost(ctx, mostMatches/v.policies(), endpointKinds...)
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

// endsOfTiers are the default actions of the tiers that are known.
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

// cutOff tells whom a policy cuts off, of the endpoints that there are.
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

// unaddressed tells of rules whose selector matches only what has no address.
func (v *view) unaddressed(ctx context.Context) {
	asking := v.which(func(o api.Object) bool { return asksBySelector(o) })
	if len(asking) == 0 || !v.read(ctx, "HostEndpoint", "Profile") {
		return
	}
	if !slices.ContainsFunc(v.updates(), func(u api.Update) bool {
		h, ok := u.Object.(*api.HostEndpoint)
		return ok && len(h.Spec.ExpectedIPs) == 0
	}) {
		return
	}
	if !v.readAtMost(ctx, mostMatches/len(asking), endpointKinds...) || !v.readAtMost(ctx, mostMatches/len(asking), "GlobalNetworkSet", "NetworkSet") {
		return
	}
	survey := v.survey()
	for _, o := range asking {
		for _, u := range survey.Unaddressed(api.KeyOf(o)) {
			if !slices.ContainsFunc(u.Matches, func(k api.Key) bool { return k.Kind == "HostEndpoint" }) {
				continue // sets without networks, which is plain to see
			}
			v.add(o, "the selectors of spec.%v[%d].%s match only what has no address, such as host endpoints without expectedIPs (%s), so "+
				"the rule matches no packet. Give them expectedIPs, or match nets", u.Direction, u.Rule, u.Side, few(keyTexts(u.Matches)))
		}
	}
}

// asksBySelector says that a rule of an object asks whom a selector matches.
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

func isEndpoint(o api.Object) bool { return slices.Contains(endpointKinds, o.Type().Kind) }

func keyTexts(keys []api.Key) (texts []string) {
	for _, k := range keys {
		texts = append(texts, k.String())
	}
	return texts
}

package calc

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
)

const defaultTier = "default"

// policy is a policy or profile as its object describes it, active or not. Its rules are resolved only when it becomes active: most
// policies of a datastore never do on a node.
type policy struct {
	Policy                      // its rules are empty, unless they do not come from the object (denies, default-allow, failsafes)
	selects  selectors          // as the object has them
	selector *selector.Selector // selects combined; nil for profiles
	stages   [Stages][2]bool    // at which stages it judges, by direction
	rules    [2]packedRules     // as the object has them, by direction
	denies   bool               // it is invalid, so its rules do not count, and it denies everything
	labels   map[string]string  // of profiles: labelsToApply
	problems []string           // of the object as a whole
}

// selectors are the texts that say which endpoints a policy selects.
type selectors struct{ endpoints, namespaces, serviceAccounts string }

// readPolicy reads a GlobalNetworkPolicy or a NetworkPolicy. A policy that is invalid or has an invalid selector denies everything that
// it may select, at its position in its tier. A NetworkPolicy may select everything in its namespace.
func readPolicy(u api.Update) *policy {
	p := &policy{
		Policy: Policy{
			ID:   PolicyID{Kind: u.Key.Kind, Namespace: u.Key.Namespace, Name: u.Key.Name},
			Tier: defaultTier,
		},
	}
	spec, ok := specOf(u)
	if !ok {
		p.selector, _ = p.selects.within(u.Key.Namespace)
		p.deny(u.Invalid, api.GlobalNetworkPolicySpec{ApplyOnForward: true})
		return p
	}
	if spec.Tier != "" {
		p.Tier = spec.Tier
	}
	p.Order = orderOf(spec.Order)
	p.selects = selectors{spec.Selector, spec.NamespaceSelector, spec.ServiceAccountSelector}
	selects, err := p.selects.within(u.Key.Namespace)
	p.selector = selects
	if err != nil && u.Invalid == "" {
		u.Invalid = err.Error()
	}
	if u.Invalid != "" {
		p.deny(u.Invalid, spec)
		return p
	}
	if u.Object.Meta().Unsealed {
		p.problems = append(p.problems, unsealed)
	}
	ingress, egress := directions(spec)
	p.setStages(spec, ingress, egress)
	if ingress {
		p.rules[Ingress] = packRules(spec.Ingress, spec.Selector)
	}
	if egress {
		p.rules[Egress] = packRules(spec.Egress, spec.Selector)
	}
	return p
}

// unsealed is the problem of a policy that was stored before rules were sealed, or by a program that breaks the seal; see
// docs/decisions/0008-sealed-rules.md.
const unsealed = "is stored so that Calico's tools would widen a rule of it when they write it: apply it again, or write it " +
	"with margayctl get and replace, which seals the rule"

// specOf is the spec of a policy; false if no part of it is valid.
func specOf(u api.Update) (api.GlobalNetworkPolicySpec, bool) {
	if u.Object == nil || reflect.ValueOf(u.Object).IsNil() {
		return api.GlobalNetworkPolicySpec{}, false
	}
	spec, _, ok := api.PolicyOf(u.Object)
	return spec, ok
}

// deny makes p deny everything in both directions, at the stages that spec asks for.
func (p *policy) deny(why string, spec api.GlobalNetworkPolicySpec) {
	p.setStages(spec, true, true)
	p.denies, p.Ingress, p.Egress = true, denyAll(), denyAll()
	p.problems = []string{invalid(why, "it denies everything that it may select")}
}

// invalid is the problem of an object that is stored but not valid: why, and what the node does until it is corrected.
func invalid(why, effect string) string {
	return fmt.Sprintf("invalid: %s; until it is corrected %s", strings.TrimRight(why, ". "), effect)
}

func denyAll() []Rule { return []Rule{{Action: api.Deny, V4: true, V6: true}} }

// setStages decides at which stages a policy judges. doNotTrack comes before preDNAT, which has no egress. All other policies judge the
// endpoint's own traffic, and with applyOnForward also forwarded traffic.
func (p *policy) setStages(spec api.GlobalNetworkPolicySpec, ingress, egress bool) {
	switch {
	case spec.DoNotTrack:
		p.stages[Untracked] = [2]bool{ingress, egress}
	case spec.PreDNAT:
		p.stages[PreDNAT] = [2]bool{ingress, false}
	default:
		p.stages[Normal] = [2]bool{ingress, egress}
		if spec.ApplyOnForward {
			p.stages[Forward] = [2]bool{ingress, egress}
		}
	}
}

// directions returns which directions a policy judges. Without types they follow from its rules, as in Calico.
func directions(spec api.GlobalNetworkPolicySpec) (ingress, egress bool) {
	if len(spec.Types) > 0 {
		return slices.Contains(spec.Types, api.Ingress), slices.Contains(spec.Types, api.Egress)
	}
	return len(spec.Ingress) > 0 || len(spec.Egress) == 0, len(spec.Egress) > 0
}

// within is the selector of the endpoints that a policy applies to. A policy in a namespace applies only to endpoints there. With an
// error it is the selector of the valid parts, so it selects no less than was meant.
func (s selectors) within(namespace string) (*selector.Selector, error) {
	var parts []*selector.Selector
	var wrong error
	add := func(text string, rewrite func(*selector.Selector) *selector.Selector) {
		if text == "" {
			return
		}
		s, err := selector.Parse(text)
		if err != nil {
			wrong = err
			return
		}
		parts = append(parts, rewrite(s))
	}
	ofAccounts := ofServiceAccounts
	if namespace == "" {
		ofAccounts = ofAllServiceAccounts
	}
	add(s.endpoints, s.ofEndpoints(namespace))
	add(s.namespaces, ofNamespaces)
	add(s.serviceAccounts, ofAccounts)
	if namespace != "" {
		parts = append(parts, selector.Equal(labelNamespace, namespace))
	}
	return selector.And(parts...), wrong
}

// ofEndpoints rewrites the selector of endpoints as Calico does: with a selector of namespaces, all() means all endpoints in a
// namespace; else, in a GlobalNetworkPolicy with a selector of service accounts, all that have a service account. So such a policy selects
// no hosts.
func (s selectors) ofEndpoints(namespace string) func(*selector.Selector) *selector.Selector {
	switch {
	case s.namespaces != "":
		return limitAll(labelNamespace)
	case s.serviceAccounts != "" && namespace == "":
		return limitAll(labelServiceAccount)
	}
	return asWritten
}

// defaultAllow is always there and never in the datastore.
const defaultAllow = "projectcalico-default-allow"

// readProfile reads a Profile. One that is invalid denies everything, and so does one that does not exist (its object is nil).
func readProfile(u api.Update) *policy {
	p := &policy{Policy: Policy{ID: PolicyID{Kind: api.KindProfile, Name: u.Key.Name}}}
	profile, ok := u.Object.(*api.Profile)
	switch {
	case u.Key.Name == defaultAllow:
		p.Ingress = []Rule{{Action: api.Allow, V4: true, V6: true}}
		p.Egress = p.Ingress
	case !ok || profile == nil || u.Invalid != "":
		p.denies, p.Ingress, p.Egress = true, denyAll(), denyAll()
		if u.Invalid != "" {
			p.problems = []string{invalid(u.Invalid, "it denies everything")}
		}
	default:
		p.rules = [2]packedRules{packRules(profile.Spec.Ingress, ""), packRules(profile.Spec.Egress, "")}
		p.labels = profile.Spec.LabelsToApply
		if profile.Unsealed {
			p.problems = []string{unsealed}
		}
	}
	return p
}

// missingProfile stands for a profile that is not in the datastore: defaultAllow, or one that denies everything.
func missingProfile(name string) *policy {
	return readProfile(api.Update{Key: api.Key{Kind: api.KindProfile, Name: name}})
}

// appliesTo reports whether the policy judges endpoints of a kind at any stage.
func (p *policy) appliesTo(kind string) bool {
	stages := p.stages[:]
	if kind == api.KindWorkloadEndpoint {
		stages = p.stages[Normal : Normal+1]
	}
	for _, s := range stages {
		if s[Ingress] || s[Egress] {
			return true
		}
	}
	return false
}

// lists arranges the policies that select an endpoint of a kind by stage, direction and tier. They must be in the order of evaluation.
func lists(kind string, ordered []*policy) (out [Stages][2][]TierPolicies) {
	for _, p := range ordered {
		for stage := range p.stages {
			if kind == api.KindWorkloadEndpoint && Stage(stage) != Normal {
				continue
			}
			for dir, stands := range p.stages[stage] {
				if stands {
					out[stage][dir] = appendPolicy(out[stage][dir], p)
				}
			}
		}
	}
	if kind == api.KindHostEndpoint {
		withFailsafes(&out)
	}
	return out
}

// appendPolicy adds a policy to the last tier of a list, or starts a new tier if the last one is not the policy's.
func appendPolicy(tiers []TierPolicies, p *policy) []TierPolicies {
	if n := len(tiers); n == 0 || tiers[n-1].Tier != p.Tier {
		tiers = append(tiers, TierPolicies{Tier: p.Tier})
	}
	last := &tiers[len(tiers)-1]
	last.Policies = append(last.Policies, p.ID)
	return tiers
}

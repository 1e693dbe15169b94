package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/margay-project/margay/api/selector"
)

// DefaultDeny describes a policy that probably denies more than its writer expects. If a policy of a tier judges a packet and no rule
// of the tier matches it, the packet is denied at the end of the tier.
type DefaultDeny struct {
	Tier       string
	Directions []PolicyType
	who        string // the endpoints that are cut off, for a sentence
	partly     bool   // a rule allows part of the traffic
}

// DefaultDenyOf says in which directions a policy cuts off the endpoints that it selects, as far as the policy alone can tell. A
// policy without rules, or whose last rule denies the rest, is meant to deny and is left out, unless it selects everything.
// endOfTier is the default action of its tier; empty if the caller does not know it.
func DefaultDenyOf(o Object, endOfTier Action) (d DefaultDeny, found bool) {
	s, staged, ok := PolicyOf(o)
	if !ok || staged != "" || s.DoNotTrack || s.PreDNAT {
		return d, false
	}
	d.Tier = s.Tier
	if d.Tier == "" {
		d.Tier = DefaultTier
	}
	if endOfTier == "" {
		_, endOfTier = builtinTier(d.Tier)
	}
	if endOfTier == Pass {
		return d, false
	}
	everywhere := s.selectsEverything()
	for _, t := range s.judges() {
		sum := SumUp(s.rulesOf(t))
		if sum.Rest == Allow || sum.Rest == Pass || !everywhere && (sum.OnPurpose() || sum.Opens) {
			continue
		}
		d.partly = d.partly || sum.Opens
		d.Directions = append(d.Directions, t)
	}
	d.who = "the endpoints that it selects"
	if everywhere {
		d.who = "every workload and host endpoint"
		if ns := o.Meta().Namespace; ns != "" {
			d.who = "every workload endpoint of namespace " + ns
		}
	}
	return d, len(d.Directions) > 0
}

// Warning returns a sentence that says which endpoints are cut off, in which directions, and what to do. who names the endpoints;
// if it is empty, the policy's selector describes them.
func (d DefaultDeny) Warning(who string) string {
	var cut []string
	for _, t := range d.Directions {
		cut = append(cut, strings.ToLower(string(t)))
	}
	if who == "" {
		who = d.who
	}
	what, join := "none of its rules allows %s", " or "
	if d.partly {
		what, join = "its rules allow only part of their %s", " and "
	}
	return fmt.Sprintf("the policy makes %s default-deny: "+what+", and the rest is denied at the end of tier %s "+
		"(failsafe ports of hosts excepted). Put a policy before it that allows the traffic that must pass, add such rules, or use a tier "+
		"with defaultAction Pass", who, strings.Join(cut, join), d.Tier)
}

// judges returns the directions that a policy judges.
func (s *GlobalNetworkPolicySpec) judges() []PolicyType {
	if len(s.Types) > 0 {
		return s.Types
	}
	return s.impliedTypes()
}

func (s *GlobalNetworkPolicySpec) rulesOf(t PolicyType) []Rule {
	if t == Egress {
		return s.Egress
	}
	return s.Ingress
}

func (s *GlobalNetworkPolicySpec) selectsEverything() bool {
	parsed, err := selector.Parse(s.Selector)
	return err == nil && parsed.IsAll() && s.NamespaceSelector == "" && s.ServiceAccountSelector == ""
}

// Sum summarizes the rules of one direction.
type Sum struct {
	Rules  int
	Opens  bool   // a rule allows, or passes to the next tier
	Passes bool   // a rule passes to the next tier
	Rest   Action // action of the first rule without criteria, which decides every packet that reaches it: Allow, Deny or Pass; empty if there is none
}

// SumUp summarizes the rules of one direction.
func SumUp(rules []Rule) Sum {
	sum := Sum{Rules: len(rules)}
	for i := range rules {
		sum.Opens = sum.Opens || rules[i].Action == Allow || rules[i].Action == Pass
		sum.Passes = sum.Passes || rules[i].Action == Pass
		if sum.Rest == "" && rules[i].decidesAll() {
			sum.Rest = rules[i].Action
		}
	}
	return sum
}

// OnPurpose says whether the rules are meant to deny: there are none, or the last one denies the rest.
func (s Sum) OnPurpose() bool { return s.Rules == 0 || s.Rest == Deny }

// decidesAll says whether the rule decides every packet, so that no rule after it is reached.
func (r *Rule) decidesAll() bool {
	return slices.Contains([]Action{Allow, Deny, Pass}, r.Action) && r.matchesEverything()
}

func (r *Rule) matchesEverything() bool {
	return r.IPVersion == nil && r.Protocol == nil && r.NotProtocol == nil && !r.ICMP.Restricts() && !r.NotICMP.Restricts() &&
		!r.HTTP.Restricts() && len(r.Unknown) == 0 && !r.Source.restricts() && !r.Destination.restricts()
}

func (e *EntityRule) restricts() bool {
	return len(e.Nets)+len(e.NotNets)+len(e.Ports)+len(e.NotPorts)+len(e.Domains)+len(e.Unknown) > 0 || e.Services.Restricts() ||
		e.ServiceAccounts.Restricts() || e.Selector+e.NotSelector+e.NamespaceSelector != ""
}

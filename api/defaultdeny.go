package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/margay-project/margay/api/selector"
)

// DefaultDeny is the denial at the end of a tier, which holds for every endpoint that one of its policies selects, where the
// policy does not look as if that were meant.
type DefaultDeny struct {
	Tier       string
	Directions []PolicyType
	who        string // is denied
	partly     bool   // a rule allows some of it
}

// DefaultDenyOf says in which directions a policy cuts off what it selects, as far as the policy alone can tell. A policy that
// does so without a rule, or by a last rule that denies the rest, means it, unless it selects everything.
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

// Warning says what is cut off, of whom, and what to do; empty stands for what the policy says of whom.
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
		"(failsafe ports of hosts excepted). Put a policy before it that allows what must go on, add such rules, or use a tier "+
		"with defaultAction Pass", who, strings.Join(cut, join), d.Tier)
}

// judges are the directions in which a policy judges.
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

// Sum counts the rules of one direction by their effect.
type Sum struct {
	Rules  int
	Opens  bool   // one of them allows, or passes on to the next tier
	Passes bool   // one of them passes on
	Rest   Action // what a rule without criteria does with all that no rule before it decided: Allow, Deny or Pass; else empty
}

// SumUp sums up rules.
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

// OnPurpose says that the rules are written to deny: there are none, or the last one denies the rest.
func (s Sum) OnPurpose() bool { return s.Rules == 0 || s.Rest == Deny }

// decidesAll says that no rule after this one is ever reached.
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

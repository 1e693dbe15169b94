package api

import (
	"fmt"
	"strings"

	"github.com/margay-project/margay/api/selector"
)

// Warnings says what is valid about an object but may not be what its writer expects: traffic that it cuts off without
// saying so, and criteria that are stored and not enforced yet. endOfTier is the default action of a policy's tier where
// the caller knows it; empty stands for what a tier has that nobody changed.
func Warnings(o Object, endOfTier Action) []string {
	switch o := o.(type) {
	case *GlobalNetworkPolicy, *NetworkPolicy, *StagedGlobalNetworkPolicy, *StagedNetworkPolicy:
		return policyWarnings(o, endOfTier)
	case *Profile:
		return append(ruleWarnings("spec.ingress", o.Spec.Ingress), ruleWarnings("spec.egress", o.Spec.Egress)...)
	case *WorkloadEndpoint:
		if o.Spec.QoSControls != nil {
			return []string{"spec.qosControls is stored, not enforced yet"}
		}
	case *CalicoNodeStatus:
		return []string{"the object is stored; the agent does not fill in its status yet"}
	case *KubeControllersConfiguration:
		return []string{"the object is stored and has no effect: there is no Kubernetes here"}
	case *IPPool:
		return o.encapsulationWarnings()
	case *FelixConfiguration:
		return o.warnings()
	}
	return nil
}

func policyWarnings(o Object, endOfTier Action) (warnings []string) {
	spec, staged, _ := PolicyOf(o)
	if staged == "" {
		warnings = spec.defaultDeny(o.Meta().Namespace, endOfTier)
	}
	warnings = append(warnings, ruleWarnings("spec.ingress", spec.Ingress)...)
	return append(warnings, ruleWarnings("spec.egress", spec.Egress)...)
}

// defaultDeny warns of the denial at the end of a tier, which holds for every endpoint that a policy selects.
func (s *GlobalNetworkPolicySpec) defaultDeny(namespace string, endOfTier Action) []string {
	tier := s.Tier
	if tier == "" {
		tier = DefaultTier
	}
	if endOfTier == "" {
		_, endOfTier = builtinTier(tier)
	}
	if endOfTier == Pass || s.DoNotTrack || s.PreDNAT {
		return nil
	}
	everywhere := s.selectsEverything()
	types := s.Types
	if len(types) == 0 {
		types = s.impliedTypes()
	}
	var cut []string
	only := true
	for _, t := range types {
		rules := s.Ingress
		if t == Egress {
			rules = s.Egress
		}
		left, denies := leftover(rules), onlyDenies(rules)
		if left == Allow || !everywhere && (left == Deny || !denies || len(rules) == 0) {
			continue
		}
		only = only && denies
		cut = append(cut, strings.ToLower(string(t)))
	}
	if len(cut) == 0 {
		return nil
	}
	who, what := "the endpoints that it selects", "its rules allow only part of their %s"
	if everywhere {
		who = "every workload and host endpoint"
		if namespace != "" {
			who = "every workload endpoint of namespace " + namespace
		}
	}
	if only {
		what = "none of its rules allows %s"
	}
	return []string{fmt.Sprintf("the policy makes %s default-deny: "+what+", and the rest is denied at the end of tier %s "+
		"(failsafe ports of hosts excepted). Put a policy before it that allows what must go on, add such rules, or use a tier "+
		"with defaultAction Pass", who, strings.Join(cut, " and "), tier)}
}

func (s *GlobalNetworkPolicySpec) selectsEverything() bool {
	parsed, err := selector.Parse(s.Selector)
	return err == nil && parsed.IsAll() && s.NamespaceSelector == "" && s.ServiceAccountSelector == ""
}

func onlyDenies(rules []Rule) bool {
	for i := range rules {
		if rules[i].Action == Allow || rules[i].Action == Pass {
			return false
		}
	}
	return true
}

// leftover is what a rule without criteria does with the traffic that no rule before it decided: Allow (or Pass, to the
// next tier), Deny, which is on purpose then, or nothing.
func leftover(rules []Rule) Action {
	for i := range rules {
		switch r := &rules[i]; {
		case !r.matchesEverything() || r.Action == Log:
		case r.Action == Deny:
			return Deny
		default:
			return Allow
		}
	}
	return ""
}

func (r *Rule) matchesEverything() bool {
	return r.IPVersion == nil && r.Protocol == nil && r.NotProtocol == nil && !r.ICMP.Restricts() && !r.NotICMP.Restricts() &&
		!r.HTTP.Restricts() && len(r.Unknown) == 0 && !r.Source.restricts() && !r.Destination.restricts()
}

func (e *EntityRule) restricts() bool {
	return len(e.Nets)+len(e.NotNets)+len(e.Ports)+len(e.NotPorts)+len(e.Domains)+len(e.Unknown) > 0 || e.Services.Restricts() ||
		e.ServiceAccounts.Restricts() || e.Selector+e.NotSelector+e.NamespaceSelector != ""
}

func ruleWarnings(path string, rules []Rule) []string {
	var warnings []string
	for i := range rules {
		r, at := &rules[i], at(path, i)
		for _, name := range r.NotEnforced() {
			effect := "the rule never matches until it is"
			if r.Action == Deny {
				effect = "the rule denies as if it were not there"
			}
			warnings = append(warnings, fmt.Sprintf("%s.%s is stored, not enforced yet: %s", at, name, effect))
		}
		warnings = append(warnings, r.droppedWarnings(at)...)
		if len(r.Destination.Domains) > 0 && !allowsDNS(rules[:i]) {
			warnings = append(warnings, fmt.Sprintf("%s.destination.domains is out of reach: no rule before it allows DNS to a "+
				"resolver (UDP port 53), so the names are never learned. Put a rule that allows it first", at))
		}
		switch r.Action {
		case Allow, Deny, Log, Pass:
		default:
			warnings = append(warnings, fmt.Sprintf("%s.action %s is not known: the rule denies what it matches. Want Allow, Deny, Log or Pass", at, r.Action))
		}
	}
	return warnings
}

// droppedWarnings says which fields of a rule were dropped by a program that does not know them.
func (r *Rule) droppedWarnings(at string) (warnings []string) {
	for i, side := range r.sides() {
		dropped, _ := side.DroppedFields()
		for _, field := range dropped {
			effect := "the rule matches nothing"
			if !r.Action.needsSeal() {
				effect = "the rule matches without it"
			}
			warnings = append(warnings, fmt.Sprintf("%s.%s.%s was dropped by a program that does not know the field, which is why the "+
				"selector there begins with has(%s%s): %s. Give the field again and remove that part of the selector",
				at, [2]string{"source", "destination"}[i], field, sealLabel, field, effect))
		}
	}
	return warnings
}

// NotEnforced names the criteria of a rule that are stored but not enforced yet: an Allow with one of them never matches, a
// Deny matches without them.
func (r *Rule) NotEnforced() []string {
	var names []string
	if r.HTTP.Restricts() {
		names = append(names, "http")
	}
	names = append(names, r.Unknown...)
	for _, side := range []struct {
		name string
		*EntityRule
	}{{"source", &r.Source}, {"destination", &r.Destination}} {
		if side.Services.Restricts() {
			names = append(names, side.name+".services")
		}
		if len(side.Domains) > 0 {
			names = append(names, side.name+".domains")
		}
		for _, u := range side.Unknown {
			names = append(names, side.name+"."+u)
		}
	}
	return names
}

// allowsDNS says that one of the rules lets queries to some resolver pass.
func allowsDNS(rules []Rule) bool {
	for i := range rules {
		r := &rules[i]
		if r.Action != Allow || len(r.NotEnforced()) > 0 || r.ICMP.Restricts() {
			continue
		}
		if r.Protocol != nil {
			if n, _ := r.Protocol.Value(); n != 17 {
				continue
			}
		}
		if r.NotProtocol != nil {
			if n, _ := r.NotProtocol.Value(); n == 17 {
				continue
			}
		}
		d := &r.Destination
		if (len(d.Ports) == 0 || includes(d.Ports, 53)) && !includes(d.NotPorts, 53) {
			return true
		}
	}
	return false
}

func includes(ports []Port, port uint16) bool {
	for _, p := range ports {
		if p.Name == "" && p.First <= port && port <= p.Last || p.Name == "dns" || p.Name == "domain" {
			return true
		}
	}
	return false
}

func (p *IPPool) encapsulationWarnings() []string {
	var warnings []string
	for _, m := range []struct{ field, mode string }{{"ipipMode", p.Spec.IPIPMode}, {"vxlanMode", p.Spec.VXLANMode}} {
		if encapsulates(m.mode) {
			warnings = append(warnings, fmt.Sprintf("spec.%s %s is stored, but tunnels are not built yet: "+
				"the network between the nodes must know the pool's routes", m.field, m.mode))
		}
	}
	return warnings
}

func (f *FelixConfiguration) warnings() (warnings []string) {
	if !f.appliesByName() && f.Spec.NodeSelector == "" {
		warnings = append(warnings, "no node uses the object: its name is neither default nor node.NAME, and it has no "+
			"spec.nodeSelector. Add one, for example all()")
	}
	if b := f.Spec.BPFEnabled; b != nil && !*b {
		warnings = append(warnings, "spec.bpfEnabled is false: policy is enforced with eBPF all the same, there is no other way here")
	}
	return warnings
}

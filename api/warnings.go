package api

import (
	"fmt"
	"slices"
)

// Warnings returns warnings about values of an object that are valid but may surprise its writer. They concern traffic that it cuts
// off without saying so, criteria that are stored and not enforced yet, and rules with another effect than they seem to have. endOfTier is the
// default action of the policy's tier; empty if the caller does not know it, which means the default for that tier.
func Warnings(o Object, endOfTier Action) []string {
	if denial, ok := DefaultDenyOf(o, endOfTier); ok {
		return append([]string{denial.Warning("")}, OwnWarnings(o)...)
	}
	return OwnWarnings(o)
}

// OwnWarnings returns the warnings that do not depend on other objects.
func OwnWarnings(o Object) []string {
	switch o := o.(type) {
	case *GlobalNetworkPolicy, *NetworkPolicy, *StagedGlobalNetworkPolicy, *StagedNetworkPolicy:
		spec, _, _ := PolicyOf(o)
		return spec.warnings()
	case *Profile:
		return slices.Concat(ruleWarnings("spec.ingress", o.Spec.Ingress), ruleWarnings("spec.egress", o.Spec.Egress),
			passWarnings("spec.ingress", o.Spec.Ingress), passWarnings("spec.egress", o.Spec.Egress))
	case *WorkloadEndpoint:
		if o.Spec.QoSControls != nil {
			return []string{"spec.qosControls is stored, not enforced yet"}
		}
	case *KubeControllersConfiguration:
		return []string{"the object is stored and has no effect, because Margay does not use Kubernetes"}
	case *IPPool:
		return o.encapsulationWarnings()
	case *FelixConfiguration:
		return o.warnings()
	}
	return nil
}

func (s *GlobalNetworkPolicySpec) warnings() []string {
	warnings := append(ruleWarnings("spec.ingress", s.Ingress), ruleWarnings("spec.egress", s.Egress)...)
	for _, d := range [...]struct {
		name  string
		typ   PolicyType
		rules []Rule
	}{{"ingress", Ingress, s.Ingress}, {"egress", Egress, s.Egress}} {
		if len(d.rules) > 0 && len(s.Types) > 0 && !slices.Contains(s.Types, d.typ) {
			warnings = append(warnings, fmt.Sprintf("the rules of spec.%s have no effect: spec.types does not name %s. Add it there, or remove "+
				"the rules", d.name, d.typ))
		}
	}
	return warnings
}

func ruleWarnings(path string, rules []Rule) []string {
	var warnings []string
	for i := range rules {
		r, at := &rules[i], at(path, i)
		for _, name := range r.NotEnforced() {
			effect := "until it is, the rule never matches"
			if r.Action == Deny {
				effect = "the rule denies as if the field were not there"
			}
			warnings = append(warnings, fmt.Sprintf("%s.%s is stored, not enforced yet: %s", at, name, effect))
		}
		warnings = append(warnings, r.droppedWarnings(at)...)
		warnings = append(warnings, r.emptyWarnings(at)...)
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
	return append(warnings, unreachedWarnings(path, rules)...)
}

// droppedWarnings warns of fields that a program without knowledge of them has dropped from a rule.
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

// NotEnforced names the criteria of a rule that are stored but not enforced yet. An Allow with one of them never matches. A Deny
// matches as if they were not there.
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

// allowsDNS says whether one of the rules allows queries to a resolver (UDP port 53).
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
		warnings = append(warnings, "spec.bpfEnabled is false: it has no effect, because Margay always enforces policy with eBPF")
	}
	return warnings
}

package api

import "fmt"

// emptyWarnings warns of criteria that are present and empty. A program that copies an empty list into a criterion expects that
// nothing matches; in fact everything does.
func (r *Rule) emptyWarnings(at string) (warnings []string) {
	for i, side := range r.sides() {
		where := at + "." + [2]string{"source", "destination"}[i]
		for _, empty := range side.emptyCriteria() {
			warnings = append(warnings, fmt.Sprintf("%s.%s is empty, which restricts nothing: %s. Give values that must match, or leave the field out",
				where, empty.field, empty.effect))
		}
	}
	return warnings
}

type emptyCriterion struct{ field, effect string }

func (e *EntityRule) emptyCriteria() (empty []emptyCriterion) {
	add := func(is bool, field, effect string) {
		if is {
			empty = append(empty, emptyCriterion{field, effect})
		}
	}
	addresses, ports := "the rule matches as if it were not there", "the rule matches every port"
	if e.Services == nil && len(e.Nets)+len(e.NotNets)+len(e.Domains) == 0 && !e.ServiceAccounts.Restricts() &&
		e.Selector+e.NotSelector+e.NamespaceSelector == "" {
		addresses = "the rule matches every address"
	}
	if len(e.NotPorts) > 0 {
		ports = "the rule matches every port but those of notPorts"
	}
	add(e.Nets != nil && len(e.Nets) == 0, "nets", addresses)
	add(e.Domains != nil && len(e.Domains) == 0, "domains", addresses)
	add(e.ServiceAccounts != nil && !e.ServiceAccounts.Restricts(), "serviceAccounts", addresses)
	add(e.Ports != nil && len(e.Ports) == 0, "ports", ports)
	return empty
}

// unreachedWarnings warns of rules after a rule that decides every packet.
func unreachedWarnings(path string, rules []Rule) []string {
	for i := range rules {
		if !rules[i].decidesAll() || i == len(rules)-1 {
			continue
		}
		more := ""
		if n := len(rules) - i - 2; n > 0 {
			more = fmt.Sprintf(" (and the %d after it)", n)
		}
		return []string{fmt.Sprintf("%s%s is never reached: %s before it matches everything. Change their order, or remove it", at(path, i+1), more, at(path, i))}
	}
	return nil
}

// passWarnings warns of Pass rules in a profile: no tier comes after profiles.
func passWarnings(path string, rules []Rule) (warnings []string) {
	for i := range rules {
		if rules[i].Action == Pass {
			warnings = append(warnings, at(path, i)+".action Pass denies in a profile, because no tier comes after profiles: use Allow or Deny")
		}
	}
	return warnings
}

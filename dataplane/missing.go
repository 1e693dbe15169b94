package dataplane

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

const (
	fewReasons  = 5 // that problems name
	fewPrefixes = 3 // that one problem names
)

// problems names the routes that are missing in the kernel and that no local address explains: one problem for each reason, with
// the number of routes and the first of them. A peer may send thousands of routes that cannot be used.
func (l *hopRoutes) problems() (texts []string) {
	byReason := map[string][]netip.Prefix{}
	for prefix, why := range l.refused {
		if !l.isExpected(prefix) {
			byReason[why] = append(byReason[why], prefix)
		}
	}
	reasons := slices.SortedFunc(maps.Keys(byReason), func(a, b string) int {
		return cmp.Or(len(byReason[b])-len(byReason[a]), strings.Compare(a, b))
	})
	others := 0
	for i, why := range reasons {
		if i >= fewReasons {
			others += len(byReason[why])
			continue
		}
		texts = append(texts, l.problem(why, byReason[why]))
	}
	if others > 0 {
		texts = append(texts, fmt.Sprintf("%d more %s are not in the kernel, for other reasons: margayctl dump routes lists them", others, l.names))
	}
	return texts
}

// routeProblems returns the problems of all routes by other hosts.
func (d *Driver) routeProblems() (texts []string) {
	for _, l := range d.byOtherHosts() {
		texts = append(texts, l.problems()...)
	}
	return texts
}

func (l *hopRoutes) problem(why string, prefixes []netip.Prefix) string {
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	if len(prefixes) == 1 {
		return fmt.Sprintf("the %s to %v is not in the kernel: %s", l.name, prefixes[0], why)
	}
	var first []string
	for _, prefix := range prefixes[:min(fewPrefixes, len(prefixes))] {
		first = append(first, prefix.String())
	}
	more := ""
	if n := len(prefixes) - len(first); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%d %s are not in the kernel, to %s%s: %s", len(prefixes), l.names, strings.Join(first, ", "), more, why)
}

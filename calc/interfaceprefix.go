package calc

import (
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// defaultPrefix is the beginning of the names of workload interfaces if no configuration gives another.
const defaultPrefix = "cali"

// readPrefixes reads a list of beginnings of interface names, separated by commas. An item that no name can begin with is left out and
// noted, because the operator believes that it closes interfaces. A list without an item means the default and never every interface.
func readPrefixes(text string, note func(field, format string, args ...any)) (all []string) {
	const field = "interfacePrefix"
	for p := range strings.SplitSeq(text, ",") {
		switch p = strings.TrimSpace(p); {
		case p == "" || slices.Contains(all, p):
		case !api.CanBeginInterface(p):
			note(field, "interfacePrefix: no interface's name begins with %q, so it is ignored: give beginnings of names, separated by "+
				"commas, such as cali,tap,vnet", p)
		default:
			all = append(all, p)
		}
	}
	if len(all) > 0 {
		return all
	}
	if text != "" {
		note(field, "interfacePrefix %q has no beginning of a name, so it means %s: correct it or remove the field", text, defaultPrefix)
	}
	return []string{defaultPrefix}
}

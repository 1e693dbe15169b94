package interfaces

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/margay-project/margay/calc"
)

// aliasClosed is the reason why an interface with the alias of another one drops all packets.
const aliasClosed = "its alias %q names WorkloadEndpoint %s, which governs %s: give the interface another alias (ip link set %s alias NAME), or delete the endpoint or the interface"

// assignAliases gives interfaces to workload endpoints that name none. Such a name may be an interface's alias (ip link set DEV alias
// NAME). Unlike names and alternative names, several interfaces may have one alias, and any program may set it. So an endpoint gets an
// interface by its alias only after those that name their interface, and never one without which the host would be cut off.
//
// If several interfaces have the alias, one of them is chosen, and the others are closed: they say that they are the workload's.
func (m *matcher) assignAliases(endpoints []calc.Endpoint) {
	m.closedAliases = map[int]string{}
	for _, ep := range endpoints {
		named := m.withAlias(ep.Interface)
		if len(named) == 0 {
			m.workloads[ep.Interface] = append(m.workloads[ep.Interface], ep)
			continue
		}
		chosen := named[0]
		ep.Interface = chosen.Name
		m.workloads[chosen.Name] = append(m.workloads[chosen.Name], ep)
		for _, link := range named[1:] {
			m.closedAliases[link.Index] = fmt.Sprintf(aliasClosed, link.Alias, ep.ID.Name, chosen.Name, link.Name)
		}
	}
}

// withAlias returns the interfaces with an alias, the one first that its endpoint gets. It is one that a workload may have and that no
// endpoint names; then one on which policy is in force already, so that a newcomer does not take the endpoint away; then the oldest.
func (m *matcher) withAlias(alias string) (named []Link) {
	for _, link := range m.links {
		if alias != "" && link.Alias == alias {
			named = append(named, link)
		}
	}
	order := func(b bool) int { return map[bool]int{false: 0, true: 1}[b] }
	slices.SortFunc(named, func(a, b Link) int {
		return cmp.Or(
			cmp.Compare(order(m.refused(a)), order(m.refused(b))),
			cmp.Compare(order(len(m.workloads[a.Name]) > 0), order(len(m.workloads[b.Name]) > 0)),
			cmp.Compare(order(!m.rules.Enforced[a.Index]), order(!m.rules.Enforced[b.Index])),
			cmp.Compare(a.Index, b.Index),
		)
	})
	return named
}

// refused says whether no workload can have the interface.
func (m *matcher) refused(link Link) bool {
	return m.lockout(link) != "" && !m.rules.Enforced[link.Index]
}

package bgp

import (
	"net/netip"
	"slices"

	"github.com/margay-project/margay/calc"
)

// A route reflector passes on routes of its peers (RFC 4456). Any other node passes on only those of workloads that peer with it. GoBGP follows the rules of reflection, and the export policy says which routes
// the filters and pools let pass.
//
// The import policy gives these routes a mark: the number of the present rules, their generation. When the rules change, the export policy
// knows the former and the new generation for a moment, and the server judges all routes of peers again. Each gets the new mark, so the
// server compares the former rules with the new ones for each peer, as it does for our own paths (exports.go).

// generation is the statements of the export policy for routes of peers with one mark.
type generation struct {
	mark       uint32 // 0: no route passes, and routes get no mark
	statements []statement
}

// transitStatements are the statements for routes of peers that this node passes on, without a mark. A node that neither reflects routes nor
// peers with workloads has none. For routes of workloads the node is the next hop, unless nextHopMode says Keep.
func transitStatements(want calc.BGP, peers []filtered) (list []statement) {
	reflects, workloads := want.ClusterID.IsValid(), workloadsOf(peers)
	if !reflects && len(workloads) == 0 {
		return nil
	}
	if !reflects {
		list = append(list, statement{NextHop: "Self"})
	}
	for _, mode := range []string{"Self", "Keep"} {
		var with []netip.Addr
		for _, f := range peers {
			if f.nextHop == mode {
				with = append(with, f.peer)
			}
		}
		if len(with) > 0 {
			list = append(list, statement{Peers: with, NextHop: mode})
		}
	}
	for _, g := range groupBy(peers, exportText) {
		first := peers[g.members[0]]
		if first.filters.Closed != "" {
			list = append(list, statement{Peers: g.peers, Action: reject})
			continue
		}
		for _, rule := range first.filters.Export {
			if !reflects {
				if !aboutWorkloads(rule, peers) {
					continue
				}
				rule.Interface = ""
			}
			rule.Changes = changesFor(rule.Changes, first.ownAS, calc.Path{})
			if first.ownAS != 0 && len(rule.ASPath) > 0 {
				rule.ASPath = append([]uint32{first.ownAS}, rule.ASPath...) // GoBGP has put it there already
			}
			list = append(list, byWays(rule, g.peers, first.ways)...)
		}
	}
	for _, rule := range want.Transit {
		list = append(list, statementOf(rule, nil))
	}
	return append(list, statement{Action: reject})
}

// plan adds a generation if the rules for routes of peers have changed.
func (e *exportState) plan(statements []statement) {
	present := e.generations[len(e.generations)-1]
	if sameStatements(present.statements, statements) {
		return
	}
	next := generation{statements: statements}
	if len(statements) > 0 {
		e.last++
		next.mark = e.last
	}
	e.generations = append(e.generations, next)
}

// mark is the one that routes of peers get from now on.
func (e *exportState) mark() uint32 { return e.generations[len(e.generations)-1].mark }

// transit returns the statements of all generations.
func (e *exportState) transit() (list []statement) {
	for _, g := range e.generations {
		for _, s := range g.statements {
			s.Mark, s.Unmark = g.mark, s.Action == accept
			list = append(list, s)
		}
	}
	return list
}

// applyFilters brings policies, marks and paths in line with the filters of peers. It reports false if a policy could not be set: then no
// peer may be added.
func (s *Speaker) applyFilters(want calc.BGP, peers []filtered) (errs []error, set bool) {
	groups := groupBy(peers, exportText)
	var strict []netip.Addr
	for _, g := range groups {
		strict = append(strict, g.peers...)
	}
	slices.SortFunc(strict, netip.Addr.Compare)
	marks, used := s.exports.judgeAll(want.Paths, groups, peers)
	s.exports.plan(transitStatements(want, peers))
	// Until every path has its new mark, the policy still knows the former marks, and which peers get paths without one.
	both := slices.DeleteFunc(slices.Clone(strict), func(a netip.Addr) bool { return !slices.Contains(s.exports.strict, a) })
	if err := s.setExports(both); err != nil {
		return []error{err}, false
	}
	if err := s.setImports(want, peers); err != nil {
		return []error{err}, false
	}
	errs = s.judgeAgain(want, peers)
	errs = append(errs, s.addPaths(want.Paths, marks)...)
	if len(errs) > 0 {
		return errs, true
	}
	s.exports.forget(used) // a path that is about to go may have another mark
	if err := s.setExports(strict); err != nil {
		return []error{err}, false
	}
	return nil, true
}

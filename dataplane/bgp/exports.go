package bgp

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp/filter"
)

// The filters of peers judge our own paths here, not in the server: the server knows neither the interface nor the metric of a path. Each
// path gets a mark for all that filters decide about it, and the export policy says for each mark which peers get the path, and with
// which changes. The mark itself is never sent.
//
// A path whose decisions change gets another mark. The server then judges the former path and the new one: it withdraws the path from
// peers that only had the former one, announces it to the others if it has changed for them, and touches no session. GoBGP v3 withdraws
// nothing when only its policy changes.

// outcome is the decision of filters about a path. It holds for some peers.
type outcome struct {
	peers   []netip.Addr
	accept  bool
	changes calc.RouteChanges
}

// exportState holds the marks of the export policy, and the decisions that each mark stands for.
type exportState struct {
	marks       map[string]uint32    // by the decisions as text
	known       map[uint32][]outcome // by mark
	last        uint32               // mark that was given
	generations []generation         // of the rules for routes of peers: the present one is the last. See transit.go
	// strict are the peers that get no path without a mark, sorted. A peer is strict when every path has a mark for it.
	strict []netip.Addr
}

func newExportState() exportState {
	return exportState{marks: map[string]uint32{}, known: map[uint32][]outcome{}, generations: []generation{{}}}
}

// exportText is the same for peers with the same rules. It is empty if no rule is about exports.
func exportText(f filtered) string {
	switch {
	case f.filters == nil:
		return ""
	case f.filters.Closed != "":
		return fmt.Sprint("closed ", familiesOf(f.peer))
	case len(f.filters.Export) == 0:
		return ""
	}
	return fmt.Sprint(familiesOf(f.peer), f.ownAS, f.filters.Export)
}

// judge returns the decisions of all filters about a path.
func judge(groups []group, peers []filtered, prefix netip.Prefix, path calc.Path) (outcomes []outcome) {
	for _, g := range groups {
		first := peers[g.members[0]]
		if !calc.Carries(first.peer, prefix.Addr().Is4()) {
			continue
		}
		o := outcome{peers: g.peers, accept: first.filters.Closed == ""}
		if o.accept {
			rule, matched := filter.Judge(first.filters.Export, filter.Route{
				Prefix: prefix, Communities: path.Communities, Priority: calc.DefaultPriority, Interface: path.Interface,
			})
			if matched {
				o.accept, o.changes = rule.Accept, changesFor(rule.Changes, first.ownAS, path)
			}
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

// changesFor leaves out communities that the path has. It leaves out the priority for a node that drains: its path is the last choice, and
// for peers in the same AS a priority would make it as good as others again. Peers in another AS may drop routes whose AS path does not
// begin with our AS (RFC 4271, section 6.3), so that one comes first: GoBGP puts other numbers in front of it.
func changesFor(c calc.RouteChanges, ownAS uint32, path calc.Path) calc.RouteChanges {
	c.Communities = slices.DeleteFunc(slices.Clone(c.Communities), func(text string) bool { return slices.Contains(path.Communities, text) })
	if slices.Contains(path.Communities, gracefulShutdownText) {
		c.Priority = 0
	}
	if len(c.Prepend) > 0 && ownAS != 0 && c.Prepend[0] != ownAS {
		c.Prepend = append([]uint32{ownAS}, c.Prepend...)
	}
	return c
}

// markOf returns the mark for decisions about paths of a family. A path about which there are none has no mark, which is 0. seen has the
// marks that were returned before for the same groups: peers make a text long.
func (e *exportState) markOf(v4 bool, outcomes []outcome, seen map[string]uint32) uint32 {
	if len(outcomes) == 0 {
		return 0
	}
	short := fmt.Sprint(v4)
	for _, o := range outcomes {
		short += fmt.Sprint(" ", o.accept, o.changes)
	}
	if mark, known := seen[short]; known {
		return mark
	}
	text := fmt.Sprint(outcomes)
	mark, known := e.marks[text]
	if !known {
		e.last++
		mark = e.last
		e.marks[text], e.known[mark] = mark, outcomes
	}
	seen[short] = mark
	return mark
}

// forget drops the marks that are not in use, and former generations.
func (e *exportState) forget(used map[uint32]bool) {
	e.generations = e.generations[len(e.generations)-1:]
	maps.DeleteFunc(e.marks, func(_ string, mark uint32) bool { return !used[mark] })
	maps.DeleteFunc(e.known, func(mark uint32, _ []outcome) bool { return !used[mark] })
}

// policy is the export policy for all known marks. Only a reflector exports more than our own paths.
func (e *exportState) policy(strict []netip.Addr) (list []statement) {
	for _, mark := range slices.Sorted(maps.Keys(e.known)) {
		for _, o := range e.known[mark] {
			s := statement{Own: true, Mark: mark, Peers: o.peers, Action: reject}
			if o.accept {
				s.Changes, s.Unmark, s.Action = o.changes, true, accept
			}
			list = append(list, s)
		}
	}
	if len(strict) > 0 {
		list = append(list, statement{Own: true, Peers: strict, Action: reject})
	}
	if len(e.known) > 0 {
		list = append(list, statement{Own: true, Marked: true, Unmark: true, Action: accept})
	}
	list = append(list, statement{Own: true, Action: accept})
	return append(append(list, e.transit()...), statement{Action: reject})
}

// gets says whether filters let a peer have a path of ours with a mark.
func (e *exportState) gets(peer netip.Addr, mark uint32) bool {
	for _, o := range e.known[mark] {
		if slices.Contains(o.peers, peer) {
			return o.accept
		}
	}
	return !slices.Contains(e.strict, peer)
}

// judgeAll returns the mark of each path, and which marks are in use.
func (e *exportState) judgeAll(want map[netip.Prefix]calc.Path, groups []group, peers []filtered) (marks map[netip.Prefix]uint32, used map[uint32]bool) {
	marks, used = map[netip.Prefix]uint32{}, map[uint32]bool{}
	seen := map[string]uint32{}
	for prefix, path := range want {
		marks[prefix] = e.markOf(prefix.Addr().Is4(), judge(groups, peers, prefix, path), seen)
		used[marks[prefix]] = true
	}
	return marks, used
}

func (s *Speaker) setExports(strict []netip.Addr) error {
	policy := s.exports.policy(strict)
	if !sameStatements(policy, s.policy[exports]) {
		if err := s.srv.setPolicy(exports, policy); err != nil {
			return fmt.Errorf("set the BGP export policy: %w", err)
		}
		s.policy[exports] = policy
	}
	s.exports.strict = strict
	return nil
}

// holdBack returns the sessions that may begin, and an error for each that may not yet: a path that could not be changed has no mark for
// its filters.
func (s *Speaker) holdBack(sessions map[string]session, peers []filtered) (ready map[string]session, errs []error) {
	ready = maps.Clone(sessions)
	for _, f := range peers {
		if exportText(f) == "" || slices.Contains(s.exports.strict, f.peer) {
			continue
		}
		for name, sess := range sessions {
			if _, up := s.peers[name]; !up && sess.Address == f.peer {
				delete(ready, name)
				s.failed[name] = errors.New("its filters are not in force yet; see the other problems of BGP")
				errs = append(errs, fmt.Errorf("BGP peer %s: %w", Called(name, s.wanted.Peers[name]), s.failed[name]))
			}
		}
	}
	return ready, errs
}

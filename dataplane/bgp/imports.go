package bgp

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp/filter"
)

// filtered is a peer with a session, or to get one, and its filters.
type filtered struct {
	peer    netip.Addr
	ownAS   uint32             // of this node in the session, if the peer is in another AS; otherwise 0
	filters *calc.RouteFilters // nil: none
	nextHop string             // of routes that the node passes on; see calc.Peer
	ways    ways               // to the next hops of routes
	device  string             // the interface to the workload that the peer is; empty for other peers
}

func filteredPeer(want calc.BGP, p calc.Peer, at netip.Addr) filtered {
	f := filtered{peer: at, filters: p.Filters, nextHop: p.NextHop, device: p.Interface, ownAS: want.AS}
	if p.LocalAS != 0 {
		f.ownAS = p.LocalAS
	}
	if f.ownAS == p.AS {
		f.ownAS = 0
	}
	return f
}

// filteredPeers returns the peers that have filters or a mode for next hops, and those that are workloads, sorted. A peer that is about to go keeps those that it had.
func (s *Speaker) filteredPeers(want calc.BGP, sessions map[string]session) (list []filtered) {
	add := func(p calc.Peer, at netip.Addr) {
		if p.Filters != nil || p.NextHop != "" || p.IsWorkload() {
			f := filteredPeer(want, p, at)
			f.ways = s.way.ways
			list = append(list, f)
		}
	}
	addresses := map[netip.Addr]bool{}
	for name, sess := range sessions {
		addresses[sess.Address] = true
		add(want.Peers[name], sess.Address)
	}
	for name, have := range s.peers {
		if addresses[have.session.Address] {
			continue
		}
		if p, wanted := want.Peers[name]; wanted {
			add(p, have.session.Address) // its new settings are invalid, so it keeps its session
		} else {
			add(have.calc, have.session.Address)
		}
	}
	slices.SortFunc(list, func(a, b filtered) int { return a.peer.Compare(b.peer) })
	return list
}

// importPolicy accepts what the rules of a peer accept. A route that no rule matches is accepted too, unless it is a default route, which
// would redirect all traffic of the host, or a route of a workload. Workloads are not trusted: their routes need a rule that accepts them,
// and lead to the workload itself whatever next hop it sends. The mark is for routes that this node passes on: on a reflector those of all
// peers, otherwise those of workloads. The policy of the server judges our own paths as well.
func importPolicy(peers []filtered, mark uint32, reflects bool, noWay []statement) []statement {
	workloads := workloadsOf(peers)
	policy := []statement{{Own: true, Action: accept}, {Marked: true, Unmark: true}} // a peer cannot give marks
	policy = append(policy, noWay...)
	switch {
	case mark != 0 && reflects:
		policy = append(policy, statement{SetMark: mark})
	case mark != 0 && len(workloads) > 0:
		policy = append(policy, statement{Peers: workloads, SetMark: mark})
	}
	if len(workloads) > 0 {
		policy = append(policy, statement{Peers: workloads, NextHop: nextHopPeer})
	}
	for _, g := range groupBy(peers, importText) {
		first := peers[g.members[0]]
		if first.filters.Closed != "" {
			policy = append(policy, statement{Peers: g.peers, Action: reject})
			continue
		}
		for _, rule := range first.filters.Import {
			policy = append(policy, first.importStatements(rule, g.peers)...)
		}
	}
	if len(workloads) > 0 {
		policy = append(policy, statement{Peers: workloads, Action: reject})
	}
	return append(policy,
		exactly(netip.PrefixFrom(netip.IPv4Unspecified(), 0), reject),
		exactly(netip.PrefixFrom(netip.IPv6Unspecified(), 0), reject),
		statement{Action: accept})
}

// importText is the same for peers with the same rules. It is empty if no rule is about imports.
func importText(f filtered) string {
	switch {
	case f.filters == nil:
		return ""
	case f.filters.Closed != "":
		return "closed"
	case len(f.filters.Import) == 0:
		return ""
	}
	return fmt.Sprint(familiesOf(f.peer), f.filters.Import, f.waysText())
}

// waysText tells the ways on which the meaning of the import rules depends.
func (f filtered) waysText() string {
	if !hasInterface(f.filters.Import) {
		return ""
	}
	text := " by"
	for _, rule := range f.filters.Import {
		switch {
		case rule.Interface == "":
		case f.link() != "":
			text += fmt.Sprint(" ", filter.Named(rule.Interface, f.link()))
		default:
			text += fmt.Sprint(" ", f.ways.by(rule.Interface, rule.Accept))
		}
	}
	if f.link() != "" {
		return text
	}
	return text + fmt.Sprint(" of ", f.ways.known())
}

// link is the only interface to the next hops of the peer's routes: that of a link-local session, or that to a workload. It is empty for
// other peers.
func (f filtered) link() string { return cmp.Or(f.device, f.peer.Zone()) }

// importStatements turns a rule into statements for peers: none if it cannot match.
func (f filtered) importStatements(rule calc.RouteRule, peers []netip.Addr) []statement {
	if rule.Interface == "" || f.link() == "" {
		return byWays(rule, peers, f.ways)
	}
	if filter.Named(rule.Interface, f.link()) {
		return []statement{statementOf(rule, peers)}
	}
	return nil
}

// byWays turns a rule into statements that look at next hops in place of its interface.
func byWays(rule calc.RouteRule, peers []netip.Addr, w ways) (list []statement) {
	s := statementOf(rule, peers)
	if rule.Interface == "" {
		return []statement{s}
	}
	if next := w.by(rule.Interface, rule.Accept); len(next) > 0 {
		through := s
		through.NextHops = next
		list = append(list, through)
	}
	if !rule.Accept {
		s.NoWay = true
		list = append(list, s)
	}
	return list
}

// markNoWay are the statements that mark routes whose next hop has no known way. They come before all other marks.
func (s *Speaker) markNoWay(want calc.BGP, peers []filtered) []statement {
	var at []netip.Addr // none: any peer
	all := judgesTransit(want)
	for _, f := range peers {
		if !all && f.link() == "" && f.filters != nil && hasInterface(f.filters.Import) {
			at = append(at, f.peer)
		}
	}
	if !all && len(at) == 0 {
		return nil
	}
	list := []statement{{Peers: at, SetMark: noWayMark}}
	if known := s.way.ways.known(); len(known) > 0 {
		list = append(list, statement{Peers: at, NextHops: known, Unmark: true})
	}
	return list
}

// group is the peers with the same text, sorted, and their places in the list from which the group was made.
type group struct {
	peers   []netip.Addr
	members []int
}

// groupBy groups peers that have the same text, in the order of their first peers. Peers with an empty text are left out.
func groupBy(peers []filtered, text func(filtered) string) (groups []group) {
	at := map[string]int{}
	for i, f := range peers {
		key := text(f)
		if key == "" {
			continue
		}
		n, known := at[key]
		if !known {
			n = len(groups)
			at[key], groups = n, append(groups, group{})
		}
		groups[n].peers, groups[n].members = append(groups[n].peers, f.peer), append(groups[n].members, i)
	}
	return groups
}

// setImports sets the import policy for routes that come from now on.
func (s *Speaker) setImports(want calc.BGP, peers []filtered) error {
	policy := importPolicy(peers, s.exports.mark(), want.ClusterID.IsValid(), s.markNoWay(want, peers))
	if sameStatements(policy, s.policy[imports]) {
		return nil
	}
	if err := s.srv.setPolicy(imports, policy); err != nil {
		return fmt.Errorf("set the BGP import policy: %w", err)
	}
	s.policy[imports] = policy
	return nil
}

// judgeAgain has the server judge the routes again of each peer whose rules have changed. The session stays up: the server remembers
// all routes that the peer has sent.
func (s *Speaker) judgeAgain(want calc.BGP, peers []filtered) (errs []error) {
	now := map[netip.Addr]string{}
	marks := s.marksText(want)
	if marks != "" {
		for _, p := range s.peers {
			now[p.session.Address] = s.judgedBy(want, p.session.Interface)
		}
	}
	for _, f := range peers {
		if text := importText(f); text != "" {
			now[f.peer] = s.judgedBy(want, f.device) + text
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.peers)) {
		address := s.peers[name].session.Address
		key := address
		if s.imported[key] == now[key] {
			continue
		}
		if err := s.srv.refresh(address); err != nil {
			errs = append(errs, fmt.Errorf("filter the routes of BGP peer %s again: %w", Called(name, s.peers[name].calc), err))
			if before, had := s.imported[key]; had {
				now[key] = before
			} else {
				delete(now, key)
			}
		}
	}
	s.imported = now
	return errs
}

// marksText tells the marks that the routes of every peer get.
func (s *Speaker) marksText(want calc.BGP) string {
	text := ""
	if mark := s.exports.mark(); mark != 0 {
		text = fmt.Sprint("mark ", mark, " ")
	}
	if judgesTransit(want) {
		text += fmt.Sprint("ways ", s.way.ways.known(), " ")
	}
	return text
}

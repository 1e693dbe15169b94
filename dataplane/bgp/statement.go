package bgp

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-project/margay/calc"
)

// direction is one of the two policies of the server.
type direction string

const (
	imports direction = "import"
	exports direction = "export"
)

type action string

const (
	accept action = "accept"
	reject action = "reject"
	goOn   action = "" // with the next statement
)

// statement is one line of a policy of the server. A route that meets all of its conditions is changed, and accepted or rejected.
type statement struct {
	Own     bool         // the route is this node's own path
	Peers   []netip.Addr // the session is with one of these, sorted; none: any session
	Within  netip.Prefix // invalid: any prefix
	Lengths [2]int       // the shortest and the longest prefix in Within
	Outside bool         // the prefix is not like that

	Community string
	ASPath    []uint32
	Mark      uint32 // the path has this mark; 0: any path
	Marked    bool   // the path has a mark

	NextHops []netip.Addr // the route's next hop is one of these, sorted; none: any
	NoWay    bool         // no way to the next hop is known: the route has that mark

	Changes calc.RouteChanges
	Unmark  bool   // take the mark away
	SetMark uint32 // give the route this mark; 0: none
	NextHop string // Self: this node; Keep: as it came; Peer: the peer that sent the route; empty: as it is
	Action  action
}

// nextHopPeer makes the peer that has sent a route its next hop.
const nextHopPeer = "Peer"

// statementOf turns a rule into a statement for sessions with peers.
func statementOf(rule calc.RouteRule, peers []netip.Addr) statement {
	s := statement{Peers: peers, Within: rule.Within, Lengths: [2]int{rule.Shortest, rule.Longest}, Outside: rule.Outside,
		Community: rule.Community, ASPath: rule.ASPath, Changes: rule.Changes, Action: reject}
	if rule.Accept {
		s.Action = accept
	}
	return s
}

// exactly is a statement about one prefix.
func exactly(p netip.Prefix, then action) statement {
	return statement{Within: p, Lengths: [2]int{p.Bits(), p.Bits()}, Action: then}
}

// localPreference is the LOCAL_PREF of a metric, as Calico converts it: better routes have the greater one.
func localPreference(priority int) uint32 { return uint32(math.MaxInt32 - priority) }

// String is the statement in words. Statements with equal words do the same.
func (s statement) String() string {
	var words []string
	say := func(yes bool, format string, args ...any) {
		if yes {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	say(s.Own, "own")
	say(len(s.Peers) > 0, "peer %v", s.Peers)
	say(s.Outside, "not")
	say(s.Within.IsValid(), "%v %d-%d", s.Within, s.Lengths[0], s.Lengths[1])
	say(s.Community != "", "community %s", s.Community)
	say(len(s.ASPath) > 0, "path %v", s.ASPath)
	say(s.Mark != 0, "mark %d", s.Mark)
	say(s.Marked, "marked")
	say(len(s.NextHops) > 0, "next hop in %v", s.NextHops)
	say(s.NoWay, "no way")
	words = append(words, ":")
	say(len(s.Changes.Communities) > 0, "add %v", s.Changes.Communities)
	say(len(s.Changes.Prepend) > 0, "prepend %v", s.Changes.Prepend)
	say(s.Changes.Priority != 0, "priority %d", s.Changes.Priority)
	say(s.Unmark, "unmark")
	say(s.SetMark != 0, "set mark %d", s.SetMark)
	say(s.NextHop != "", "next hop %s", s.NextHop)
	say(s.Action != goOn, "%s", s.Action)
	return strings.Join(words, " ")
}

func sameStatements(a, b []statement) bool {
	return slices.EqualFunc(a, b, func(s, t statement) bool { return s.String() == t.String() })
}

package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
)

// The mark of a path is a large community of an administrator that RFC 8092 reserves.
const (
	markAdmin = 4294967295
	markKind  = 1296126535 // "MARG", so that it is hardly anybody's

	firstOwnMark = 1 << 31 // of those that statements use among themselves
)

// installed names the objects of GoBGP that a policy consists of.
type installed struct {
	policy string
	sets   []*api.DefinedSet
}

// setPolicy replaces the policy of a direction by one assignment, so each route is judged by the former or the new one. Names have the
// number of the policy: GoBGP adds to a set or policy of the same name.
func (g *gobgpServer) setPolicy(d direction, list []statement) error {
	g.serial++
	b := policyBuilder{prefix: fmt.Sprintf("%s-%d", d, g.serial), sets: map[string]string{}}
	for _, s := range list {
		b.add(s)
	}
	made := installed{policy: b.prefix, sets: b.defined}
	if err := g.install(d, made, b.statements); err != nil {
		g.uninstall(made)
		return err
	}
	g.uninstall(g.policies[d])
	g.policies[d] = made
	return nil
}

func (g *gobgpServer) install(d direction, made installed, statements []*api.Statement) error {
	ctx := context.Background()
	for _, set := range made.sets {
		if err := g.bgp.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: set}); err != nil {
			return err
		}
	}
	if err := g.bgp.AddPolicy(ctx, &api.AddPolicyRequest{Policy: &api.Policy{Name: made.policy, Statements: statements}}); err != nil {
		return err
	}
	to := api.PolicyDirection_IMPORT
	if d == exports {
		to = api.PolicyDirection_EXPORT
	}
	return g.bgp.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name: "global", Direction: to, Policies: []*api.Policy{{Name: made.policy}}, DefaultAction: api.RouteAction_REJECT,
	}})
}

// uninstall removes a policy that is not assigned. A failure costs memory only.
func (g *gobgpServer) uninstall(old installed) {
	if old.policy == "" {
		return
	}
	ctx := context.Background()
	err := g.bgp.DeletePolicy(ctx, &api.DeletePolicyRequest{Policy: &api.Policy{Name: old.policy}, All: true})
	for _, set := range old.sets {
		err = errors.Join(err, g.bgp.DeleteDefinedSet(ctx, &api.DeleteDefinedSetRequest{DefinedSet: set, All: true}))
	}
	if err != nil {
		g.journal.log.WithError(err).Debug("a former BGP policy was not removed completely")
	}
}

// refresh is a soft reset in. GoBGP withdraws what the policy now rejects, and takes what it now accepts.
func (g *gobgpServer) refresh(a netip.Addr) error {
	return g.bgp.ResetPeer(context.Background(), &api.ResetPeerRequest{Address: a.String(), Soft: true, Direction: api.ResetPeerRequest_IN})
}

// policyBuilder makes the statements and sets of one policy.
type policyBuilder struct {
	prefix     string
	statements []*api.Statement
	defined    []*api.DefinedSet
	sets       map[string]string // names of sets by their contents
}

// add translates a statement. GoBGP's statement puts one number in front of the AS path, and either adds or removes large communities.
// So each number is a statement of its own that goes on with the next, and so are added large communities. If the AS path is a
// condition too, the first of these statements marks the route for the others, which see the changed path.
func (b *policyBuilder) add(s statement) {
	standard, large := splitCommunities(s.Changes.Communities)
	strip := ""
	if s.Unmark {
		strip = anyMark()
	}
	if len(s.ASPath) > 0 && len(s.Changes.Prepend) > 0 {
		mark := uint32(firstOwnMark + len(b.statements))
		b.append(s, &api.Actions{LargeCommunity: &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: []string{markText(mark)}}})
		if !s.Unmark {
			strip = exactText(markText(mark))
		}
		s = statement{Peers: s.Peers, Mark: mark, Changes: s.Changes, NextHop: s.NextHop, Action: s.Action}
	}
	for i := len(s.Changes.Prepend) - 1; i >= 0; i-- {
		b.append(s, &api.Actions{AsPrepend: &api.AsPrependAction{Asn: s.Changes.Prepend[i], Repeat: 1}})
	}
	if s.SetMark != 0 {
		large = append(large, markText(s.SetMark))
	}
	if len(large) > 0 {
		b.append(s, &api.Actions{LargeCommunity: &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: large}})
	}
	last := &api.Actions{}
	if len(standard) > 0 {
		last.Community = &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: standard}
	}
	if s.Changes.Priority != 0 {
		last.LocalPref = &api.LocalPrefAction{Value: localPreference(s.Changes.Priority)}
	}
	if strip != "" {
		last.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_REMOVE, Communities: []string{strip}}
	}
	switch s.NextHop {
	case "Self":
		last.Nexthop = &api.NexthopAction{Self: true}
	case "Keep":
		last.Nexthop = &api.NexthopAction{Unchanged: true}
	case nextHopPeer:
		last.Nexthop = &api.NexthopAction{PeerAddress: true}
	}
	switch s.Action {
	case accept:
		last.RouteAction = api.RouteAction_ACCEPT
	case reject:
		last.RouteAction = api.RouteAction_REJECT
	}
	b.append(s, last)
}

func splitCommunities(all []string) (standard, large []string) {
	for _, text := range all {
		if strings.Count(text, ":") == 2 {
			large = append(large, text)
		} else {
			standard = append(standard, text)
		}
	}
	return standard, large
}

func (b *policyBuilder) append(s statement, then *api.Actions) {
	b.statements = append(b.statements, &api.Statement{
		Name: fmt.Sprintf("%s-%d", b.prefix, len(b.statements)), Conditions: b.conditions(s), Actions: then,
	})
}

func (b *policyBuilder) conditions(s statement) *api.Conditions {
	c := &api.Conditions{}
	if s.Own {
		c.RouteType = api.Conditions_ROUTE_TYPE_LOCAL
	}
	if len(s.Peers) > 0 {
		var nets []string
		for _, a := range s.Peers {
			nets = append(nets, netip.PrefixFrom(a, a.BitLen()).String()) // without the zone: see applyFilters
		}
		nets = slices.Compact(nets)
		c.NeighborSet = b.match(&api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, List: nets})
	}
	for _, next := range s.NextHops {
		c.NextHopInList = append(c.NextHopInList, netip.PrefixFrom(next, next.BitLen()).String())
	}
	if s.Within.IsValid() {
		// A set of several prefixes would look only at the longest one that contains the route's.
		c.PrefixSet = b.match(&api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Prefixes: []*api.Prefix{{
			IpPrefix: s.Within.String(), MaskLengthMin: uint32(s.Lengths[0]), MaskLengthMax: uint32(s.Lengths[1]),
		}}})
		if s.Outside {
			c.PrefixSet.Type = api.MatchSet_INVERT
		}
	}
	if len(s.ASPath) > 0 {
		c.AsPathSet = b.match(&api.DefinedSet{DefinedType: api.DefinedType_AS_PATH, List: []string{asPathPattern(s.ASPath)}})
	}
	if s.Community != "" && strings.Count(s.Community, ":") != 2 {
		c.CommunitySet = b.match(&api.DefinedSet{DefinedType: api.DefinedType_COMMUNITY, List: []string{exactText(s.Community)}})
	}
	if large := largeConditions(s); len(large) > 0 {
		c.LargeCommunitySet = b.match(&api.DefinedSet{DefinedType: api.DefinedType_LARGE_COMMUNITY, List: large})
		c.LargeCommunitySet.Type = api.MatchSet_ALL
	}
	return c
}

// largeConditions are patterns of large communities, all of which the route must have.
func largeConditions(s statement) (patterns []string) {
	if s.Mark != 0 {
		patterns = append(patterns, exactText(markText(s.Mark)))
	}
	if s.Marked {
		patterns = append(patterns, anyMark())
	}
	if s.NoWay {
		patterns = append(patterns, exactText(markText(noWayMark)))
	}
	if strings.Count(s.Community, ":") == 2 {
		patterns = append(patterns, exactText(s.Community))
	}
	return patterns
}

// match refers to a set, which it defines if it is new.
func (b *policyBuilder) match(set *api.DefinedSet) *api.MatchSet {
	contents := set.String()
	name, known := b.sets[contents]
	if !known {
		name = fmt.Sprintf("%s-set-%d", b.prefix, len(b.defined))
		set.Name = name
		b.sets[contents], b.defined = name, append(b.defined, set)
	}
	return &api.MatchSet{Type: api.MatchSet_ANY, Name: name}
}

func exactText(text string) string { return "^" + regexp.QuoteMeta(text) + "$" }

func markText(mark uint32) string { return fmt.Sprintf("%d:%d:%d", uint32(markAdmin), markKind, mark) }

func anyMark() string { return fmt.Sprintf("^%d:%d:[0-9]+$", uint32(markAdmin), markKind) }

// asPathPattern is a pattern for AS paths that begin with numbers. In GoBGP's patterns, _ stands for a border between numbers.
func asPathPattern(numbers []uint32) string {
	pattern := "^"
	for _, as := range numbers {
		pattern += fmt.Sprintf("%d_", as)
	}
	return pattern
}

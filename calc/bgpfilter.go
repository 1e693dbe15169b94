package calc

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// DefaultPriority is the metric that a node's own routes have for the criterion priority of a BGPFilter, as in Calico.
const DefaultPriority = 1024

// RouteFilters are the rules of a peer's BGPFilters for the address families of its session, in order. The first rule that matches a
// route decides.
type RouteFilters struct {
	Closed string      `json:"closed,omitempty"` // why no route passes in either direction; empty: the rules decide
	Import []RouteRule `json:"import,omitempty"` // for routes from the peer; without a match they are accepted, but for a default route
	Export []RouteRule `json:"export,omitempty"` // for routes to the peer; without a match the node's own paths are announced
}

// RouteRule is a rule of a BGPFilter. All of its criteria must hold; those that are not set always do.
type RouteRule struct {
	Within    netip.Prefix `json:"within,omitzero"` // the route's prefix is in this one, with a length from Shortest to Longest
	Shortest  int          `json:"shortest,omitempty"`
	Longest   int          `json:"longest,omitempty"`
	Outside   bool         `json:"outside,omitempty"`   // the route's prefix is not like that
	Learned   bool         `json:"learned,omitempty"`   // the route is from a peer
	Interface string       `json:"interface,omitempty"` // by which packets to the route's next hop or workload leave; * stands for any text
	Community string       `json:"community,omitempty"` // that the route has
	ASPath    []uint32     `json:"asPath,omitempty"`    // the beginning of the route's AS path
	Priority  int          `json:"priority,omitempty"`  // metric of the route
	Accept    bool         `json:"accept,omitempty"`    // otherwise reject
	Changes   RouteChanges `json:"changes,omitzero"`    // to the route, if it is accepted
}

// RouteChanges are changes to an accepted route.
type RouteChanges struct {
	Communities []string `json:"communities,omitempty"` // added
	Prepend     []uint32 `json:"prepend,omitempty"`     // put in front of the AS path; the first becomes the path's first
	Priority    int      `json:"priority,omitempty"`    // the new metric; 0: unchanged
}

// Equal compares the filters by value, and everything else as ==.
func (p Peer) Equal(q Peer) bool {
	a, b := p.Filters, q.Filters
	p.Filters, q.Filters = nil, nil
	return p == q && reflect.DeepEqual(a, b)
}

// filters reads the BGPFilters of a session. It returns nil if the BGPPeer names none. If one cannot be in force, no route passes: its
// rules may have been there to reject.
func (r *bgpReader) filters(key api.Key, spec api.BGPPeerSpec, p Peer) *RouteFilters {
	if len(spec.Filters) == 0 {
		return nil
	}
	f := filterReader{v4: p.Carries(true), v6: p.Carries(false), ebgp: r.external(p), reflects: r.bgp.ClusterID.IsValid()}
	for _, name := range spec.Filters {
		about := api.Key{Kind: api.KindBGPFilter, Name: name}
		filter := named[api.BGPFilter](r.objects, api.KindBGPFilter, name)
		if filter == nil {
			return r.closed(key, fmt.Sprintf("%v, which filters names, does not exist or is invalid", about), "create or correct it, or remove it from filters")
		}
		if err := f.read(filter.Spec); err != nil {
			return r.closed(key, fmt.Sprintf("%v: %v", about, err), "correct the filter, or remove it from filters")
		}
	}
	return &f.RouteFilters
}

func (r *bgpReader) closed(key api.Key, why, instead string) *RouteFilters {
	r.note(key, "%s, so no route passes its sessions in either direction: %s", why, instead)
	return &RouteFilters{Closed: why}
}

// external says whether the peer is in another AS than this node is for it.
func (r *bgpReader) external(p Peer) bool {
	own := r.bgp.AS
	if p.LocalAS != 0 {
		own = p.LocalAS
	}
	return p.AS != own
}

// filterReader turns the rules of BGPFilters into those of one session.
type filterReader struct {
	v4, v6   bool // the families of the session
	ebgp     bool
	reflects bool // the node announces routes of peers too
	RouteFilters
}

// read adds the rules of one BGPFilter.
func (f *filterReader) read(spec api.BGPFilterSpec) error {
	if f.v4 {
		if err := f.readFamily(spec.ImportV4, spec.ExportV4, netip.IPv4Unspecified()); err != nil {
			return err
		}
	}
	if f.v6 {
		return f.readFamily(spec.ImportV6, spec.ExportV6, netip.IPv6Unspecified())
	}
	return nil
}

// readFamily adds the rules for the family of an address.
func (f *filterReader) readFamily(imports, exports []api.BGPFilterRule, of netip.Addr) error {
	family := "V6"
	if of.Is4() {
		family = "V4"
	}
	for i, from := range imports {
		rule, possible, err := f.importRule(from)
		if err != nil {
			return fmt.Errorf("import%s[%d]: %w", family, i, err)
		}
		if possible {
			f.Import = append(f.Import, f.only(rule, of))
		}
	}
	for i, from := range exports {
		if f.reflects && from.Priority != nil {
			return fmt.Errorf("export%s[%d] has the criterion priority, and GoBGP cannot compare the LOCAL_PREF of the routes that this node reflects", family, i)
		}
		rule, possible, err := f.rule(from)
		if err != nil {
			return fmt.Errorf("export%s[%d]: %w", family, i, err)
		}
		if possible {
			f.Export = append(f.Export, f.only(rule, of))
		}
	}
	return nil
}

// only returns the rule for the family of an address. In a session of one family every rule is for that one.
func (f *filterReader) only(rule RouteRule, of netip.Addr) RouteRule {
	if f.v4 && f.v6 && !rule.Within.IsValid() {
		rule.Within, rule.Longest = netip.PrefixFrom(of, 0), of.BitLen()
	}
	return rule
}

// importRule is a rule for routes from the peer. A route from a peer in another AS has no metric, and counts as 100 in the order of
// local preferences (BIRD's default).
func (f *filterReader) importRule(from api.BGPFilterRule) (rule RouteRule, possible bool, err error) {
	const preference = 100
	switch {
	case from.Priority != nil && !f.ebgp:
		return RouteRule{}, false, fmt.Errorf("it has the criterion priority, and GoBGP cannot compare the LOCAL_PREF of the routes of a peer in the same AS")
	case from.Priority != nil && *from.Priority != math.MaxInt32-preference:
		return RouteRule{}, false, nil
	}
	rule, possible, err = f.rule(from)
	rule.Priority, rule.Learned = 0, false // they hold for every route of the peer
	return rule, possible, err
}

// rule reads a rule. It reports false if the rule matches no route of the session.
func (f *filterReader) rule(from api.BGPFilterRule) (rule RouteRule, possible bool, err error) {
	if from.PeerType != "" && (from.PeerType == "eBGP") != f.ebgp {
		return RouteRule{}, false, nil
	}
	rule = RouteRule{
		Learned: from.Source == "RemotePeers", Interface: from.Interface, Accept: from.Action == "Accept", Changes: readChanges(from.Operations),
	}
	if from.Communities != nil && len(from.Communities.Values) > 0 {
		rule.Community = from.Communities.Values[0]
	}
	for _, as := range from.ASPathPrefix {
		rule.ASPath = append(rule.ASPath, uint32(as))
	}
	if from.Priority != nil {
		rule.Priority = *from.Priority
	}
	if from.CIDR == "" {
		return rule, true, nil
	}
	if err := rule.readNetwork(from); err != nil {
		return RouteRule{}, false, err
	}
	return rule, rule.Outside || rule.Shortest <= rule.Longest, nil
}

// readNetwork reads cidr, matchOperator and prefixLength. With a prefixLength, Equal is the same as In, as in Calico.
func (rule *RouteRule) readNetwork(from api.BGPFilterRule) (err error) {
	if rule.Within, err = api.ParseNet(from.CIDR); err != nil {
		return fmt.Errorf("cidr: %w", err)
	}
	rule.Outside = from.MatchOperator == "NotIn" || from.MatchOperator == "NotEqual"
	rule.Shortest, rule.Longest = rule.Within.Bits(), rule.Within.Addr().BitLen()
	switch length := from.PrefixLength; {
	case length != nil:
		if length.Min != nil {
			rule.Shortest = max(rule.Shortest, int(*length.Min))
		}
		if length.Max != nil {
			rule.Longest = min(rule.Longest, int(*length.Max))
		}
	case from.MatchOperator == "Equal", from.MatchOperator == "NotEqual":
		rule.Longest = rule.Shortest
	}
	if rule.Outside && rule.Shortest > rule.Longest { // every route matches
		rule.Within, rule.Shortest, rule.Longest, rule.Outside = netip.Prefix{}, 0, 0, false
	}
	return nil
}

// readChanges adds up operations, which apply in their order.
func readChanges(operations []api.BGPFilterOperation) (c RouteChanges) {
	for _, o := range operations {
		switch {
		case o.AddCommunity != nil:
			if !slices.Contains(c.Communities, o.AddCommunity.Value) {
				c.Communities = append(c.Communities, o.AddCommunity.Value)
			}
		case o.PrependASPath != nil:
			var front []uint32
			for _, as := range o.PrependASPath.Prefix {
				front = append(front, uint32(as))
			}
			c.Prepend = append(front, c.Prepend...)
		case o.SetPriority != nil:
			c.Priority = o.SetPriority.Value
		}
	}
	return c
}

// filters writes the rules of a peer, each list in order.
func (t *text) filters(peer string, f *RouteFilters) {
	switch {
	case f == nil:
		return
	case f.Closed != "":
		t.line("filter", peer, "closed:", f.Closed)
		return
	}
	for i, rule := range f.Import {
		t.line("filter", peer, fmt.Sprintf("import %d:", i+1), rule.String())
	}
	for i, rule := range f.Export {
		t.line("filter", peer, fmt.Sprintf("export %d:", i+1), rule.String())
	}
}

// String is the rule in words.
func (rule RouteRule) String() string {
	verdict := "reject"
	if rule.Accept {
		verdict = "accept"
	}
	in := "in"
	if rule.Outside {
		in = "not in"
	}
	c := rule.Changes
	return strings.Join(slices.DeleteFunc([]string{
		verdict,
		when(rule.Within.IsValid(), fmt.Sprintf("%s %v of length %d to %d", in, rule.Within, rule.Shortest, rule.Longest)),
		when(rule.Learned, "from a peer"),
		when(rule.Interface != "", "by interface "+rule.Interface),
		when(rule.Community != "", "with community "+rule.Community),
		when(len(rule.ASPath) > 0, fmt.Sprintf("with AS path %v", rule.ASPath)),
		when(rule.Priority != 0, fmt.Sprintf("with priority %d", rule.Priority)),
		when(len(c.Communities) > 0, "add "+strings.Join(c.Communities, " ")),
		when(len(c.Prepend) > 0, fmt.Sprintf("prepend %v", c.Prepend)),
		when(c.Priority != 0, fmt.Sprintf("set priority %d", c.Priority)),
	}, func(part string) bool { return part == "" }), " ")
}

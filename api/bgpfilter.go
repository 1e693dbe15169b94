package api

// BGPFilter says which routes are exported to a BGPPeer and which are imported from it. The first rule that matches a route
// decides. A route that no rule matches goes on to the next filter of the peer.
type BGPFilter struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     BGPFilterSpec `json:"spec"`
}

// BGPFilterSpec holds the rules of a BGPFilter, each list in order of evaluation.
type BGPFilterSpec struct {
	ExportV4 []BGPFilterRule `json:"exportV4,omitempty"` // rules for IPv4 routes that the node announces to the peer
	ImportV4 []BGPFilterRule `json:"importV4,omitempty"` // rules for IPv4 routes that the node learns from the peer
	ExportV6 []BGPFilterRule `json:"exportV6,omitempty"` // rules for IPv6 routes that the node announces to the peer
	ImportV6 []BGPFilterRule `json:"importV6,omitempty"` // rules for IPv6 routes that the node learns from the peer
}

// BGPFilterRule matches a route that meets all of its criteria. A rule without criteria matches every route.
type BGPFilterRule struct {
	CIDR          string                 `json:"cidr,omitempty"`          // network to compare the route with; needs matchOperator
	PrefixLength  *BGPFilterPrefixLength `json:"prefixLength,omitempty"`  // prefix lengths of the routes; needs cidr
	Source        string                 `json:"source,omitempty"`        // RemotePeers: only routes learned from other nodes or peers
	Interface     string                 `json:"interface,omitempty"`     // interface by which packets to the workload, or to the next hop of a peer's route, leave: a name, in which * stands for any text
	MatchOperator string                 `json:"matchOperator,omitempty"` // how the route's network compares with cidr: Equal, NotEqual, In, NotIn
	PeerType      string                 `json:"peerType,omitempty"`      // peer that the route was learned from: eBGP (another AS) or iBGP (the same AS)
	Communities   *BGPFilterCommunities  `json:"communities,omitempty"`   // a community that the route must have
	ASPathPrefix  []ASNumber             `json:"asPathPrefix,omitempty"`  // AS numbers that the route's path must begin with
	Priority      *int                   `json:"priority,omitempty"`      // metric of the route: 1 to 2147483646; not for imports from peers of the same AS, nor for exports of a node that reflects routes: there no route passes
	Action        string                 `json:"action"`                  // Accept, Reject
	Operations    []BGPFilterOperation   `json:"operations,omitempty"`    // changes to an accepted route, at most 10, in order; only for Accept
}

// BGPFilterPrefixLength is a range of prefix lengths, both ends included.
type BGPFilterPrefixLength struct {
	Min *int32 `json:"min,omitempty"` // 0 unless set
	Max *int32 `json:"max,omitempty"` // 32 for IPv4 and 128 for IPv6 unless set
}

// BGPFilterCommunities matches a route by its communities.
type BGPFilterCommunities struct {
	Values []string `json:"values"` // exactly one community: AA:NN or AA:NN:MM
}

// BGPFilterOperation changes an accepted route; it has exactly one field.
type BGPFilterOperation struct {
	AddCommunity  *BGPFilterAddCommunity  `json:"addCommunity,omitempty"`  // adds a community
	PrependASPath *BGPFilterPrependASPath `json:"prependASPath,omitempty"` // puts AS numbers before the path
	SetPriority   *BGPFilterSetPriority   `json:"setPriority,omitempty"`   // sets the metric
}

// BGPFilterAddCommunity adds a community to a route.
type BGPFilterAddCommunity struct {
	Value string `json:"value"` // AA:NN with 16 bits each, or AA:NN:MM with 32 bits each
}

// BGPFilterPrependASPath puts AS numbers in front of a route's path.
type BGPFilterPrependASPath struct {
	Prefix []ASNumber `json:"prefix"` // 1 to 10 AS numbers; the first becomes the first of the path
}

// BGPFilterSetPriority sets the metric of a route.
type BGPFilterSetPriority struct {
	Value int `json:"value"` // metric of the route: 1 to 2147483646
}

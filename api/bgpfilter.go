package api

// BGPFilter says which routes peers are told of and which are taken from them. The first rule that matches a route decides;
// a route that no rule matches goes on to the next filter of the peer.
type BGPFilter struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     BGPFilterSpec `json:"spec"`
}

type BGPFilterSpec struct {
	ExportV4 []BGPFilterRule `json:"exportV4,omitempty"` // IPv4 routes that peers are told of
	ImportV4 []BGPFilterRule `json:"importV4,omitempty"` // IPv4 routes that are taken from peers
	ExportV6 []BGPFilterRule `json:"exportV6,omitempty"` // IPv6 routes that peers are told of
	ImportV6 []BGPFilterRule `json:"importV6,omitempty"` // IPv6 routes that are taken from peers
}

// BGPFilterRule matches a route that meets all of its criteria.
type BGPFilterRule struct {
	CIDR          string                 `json:"cidr,omitempty"`          // needs matchOperator
	PrefixLength  *BGPFilterPrefixLength `json:"prefixLength,omitempty"`  // of routes within cidr
	Source        string                 `json:"source,omitempty"`        // RemotePeers
	Interface     string                 `json:"interface,omitempty"`     // a name in which * stands for any text
	MatchOperator string                 `json:"matchOperator,omitempty"` // Equal, NotEqual, In, NotIn: how the route's network is to CIDR
	PeerType      string                 `json:"peerType,omitempty"`      // eBGP, iBGP
	Communities   *BGPFilterCommunities  `json:"communities,omitempty"`   // one that the route must have
	ASPathPrefix  []ASNumber             `json:"asPathPrefix,omitempty"`  // how the route's path must begin
	Priority      *int                   `json:"priority,omitempty"`      // the route's metric
	Action        string                 `json:"action"`                  // Accept, Reject
	Operations    []BGPFilterOperation   `json:"operations,omitempty"`    // changes to an accepted route
}

type BGPFilterPrefixLength struct {
	Min *int32 `json:"min,omitempty"` // 0 unless set
	Max *int32 `json:"max,omitempty"` // 32 or 128 unless set
}

type BGPFilterCommunities struct {
	Values []string `json:"values"` // exactly one
}

// BGPFilterOperation changes an accepted route; it has exactly one field.
type BGPFilterOperation struct {
	AddCommunity  *BGPFilterAddCommunity  `json:"addCommunity,omitempty"`  // adds a community
	PrependASPath *BGPFilterPrependASPath `json:"prependASPath,omitempty"` // puts AS numbers before the path
	SetPriority   *BGPFilterSetPriority   `json:"setPriority,omitempty"`   // sets the metric
}

type BGPFilterAddCommunity struct {
	Value string `json:"value"` // AA:NN with 16 bits each, or AA:NN:MM with 32
}

type BGPFilterPrependASPath struct {
	Prefix []ASNumber `json:"prefix"` // the first is what the peer sees first
}

type BGPFilterSetPriority struct {
	Value int `json:"value"` // the route's metric
}

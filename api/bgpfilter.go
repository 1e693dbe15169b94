package api

// BGPFilter says which routes peers are told of and which are taken from them. The first rule that matches a route decides;
// a route that no rule matches goes on to the next filter of the peer.
type BGPFilter struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     BGPFilterSpec `json:"spec"`
}

type BGPFilterSpec struct {
	ExportV4 []BGPFilterRule `json:"exportV4,omitempty"`
	ImportV4 []BGPFilterRule `json:"importV4,omitempty"`
	ExportV6 []BGPFilterRule `json:"exportV6,omitempty"`
	ImportV6 []BGPFilterRule `json:"importV6,omitempty"`
}

// BGPFilterRule matches a route that meets all of its criteria.
type BGPFilterRule struct {
	CIDR          string                 `json:"cidr,omitempty"`
	PrefixLength  *BGPFilterPrefixLength `json:"prefixLength,omitempty"`
	Source        string                 `json:"source,omitempty"`        // RemotePeers
	Interface     string                 `json:"interface,omitempty"`     // a name in which * stands for any text
	MatchOperator string                 `json:"matchOperator,omitempty"` // Equal, NotEqual, In, NotIn: how the route's network is to CIDR
	PeerType      string                 `json:"peerType,omitempty"`      // eBGP, iBGP
	Communities   *BGPFilterCommunities  `json:"communities,omitempty"`
	ASPathPrefix  []ASNumber             `json:"asPathPrefix,omitempty"`
	Priority      *int                   `json:"priority,omitempty"`
	Action        string                 `json:"action"` // Accept, Reject
	Operations    []BGPFilterOperation   `json:"operations,omitempty"`
}

type BGPFilterPrefixLength struct {
	Min *int32 `json:"min,omitempty"`
	Max *int32 `json:"max,omitempty"`
}

type BGPFilterCommunities struct {
	Values []string `json:"values"`
}

// BGPFilterOperation changes an accepted route; it has exactly one field.
type BGPFilterOperation struct {
	AddCommunity  *BGPFilterAddCommunity  `json:"addCommunity,omitempty"`
	PrependASPath *BGPFilterPrependASPath `json:"prependASPath,omitempty"`
	SetPriority   *BGPFilterSetPriority   `json:"setPriority,omitempty"`
}

type BGPFilterAddCommunity struct {
	Value string `json:"value"`
}

type BGPFilterPrependASPath struct {
	Prefix []ASNumber `json:"prefix"`
}

type BGPFilterSetPriority struct {
	Value int `json:"value"`
}

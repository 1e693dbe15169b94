package api

// BGPConfiguration named default holds for every node, node.NAME for one.
type BGPConfiguration struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     BGPConfigurationSpec `json:"spec"`
}

type BGPConfigurationSpec struct {
	LogSeverityScreen              string                `json:"logSeverityScreen,omitempty"`              // kept for Calico's agents, no effect here
	NodeToNodeMeshEnabled          *bool                 `json:"nodeToNodeMeshEnabled,omitempty"`          // true unless set; default only
	ASNumber                       *ASNumber             `json:"asNumber,omitempty"`                       // of nodes that name none, else 64512; default only
	ServiceLoadBalancerIPs         []CIDRBlock           `json:"serviceLoadBalancerIPs,omitempty"`         // for Kubernetes, no effect here; default only
	ServiceExternalIPs             []CIDRBlock           `json:"serviceExternalIPs,omitempty"`             // for Kubernetes, no effect here; default only
	ServiceClusterIPs              []CIDRBlock           `json:"serviceClusterIPs,omitempty"`              // for Kubernetes, no effect here; default only
	ServiceLoadBalancerAggregation string                `json:"serviceLoadBalancerAggregation,omitempty"` // for Kubernetes, no effect here
	Communities                    []Community           `json:"communities,omitempty"`                    // names for communities; needs prefixAdvertisements
	PrefixAdvertisements           []PrefixAdvertisement `json:"prefixAdvertisements,omitempty"`           // communities for announced prefixes
	ListenPort                     uint16                `json:"listenPort,omitempty"`                     // 179 unless set
	NodeMeshPassword               *BGPPassword          `json:"nodeMeshPassword,omitempty"`               // needs the mesh; default only
	NodeMeshMaxRestartTime         *Duration             `json:"nodeMeshMaxRestartTime,omitempty"`         // how long peers of the mesh keep routes over a restart: 120s unless set; default only
	BindMode                       *string               `json:"bindMode,omitempty"`                       // listen on every address, or on the node's
	IgnoredInterfaces              []string              `json:"ignoredInterfaces,omitempty"`              // names in which * stands for any text; no effect here
	LocalWorkloadPeeringIPV4       string                `json:"localWorkloadPeeringIPV4,omitempty"`       // the address that workloads peer with
	LocalWorkloadPeeringIPV6       string                `json:"localWorkloadPeeringIPV6,omitempty"`       // the address that workloads peer with
	ProgramClusterRoutes           *string               `json:"programClusterRoutes,omitempty"`           // which routes of pools BGP brings into the kernel: EnabledNoEncapOnly unless set
	IPv4NormalRoutePriority        *int                  `json:"ipv4NormalRoutePriority,omitempty"`        // the metric of routes in the kernel: 1024 unless set
	IPv6NormalRoutePriority        *int                  `json:"ipv6NormalRoutePriority,omitempty"`        // the metric of routes in the kernel: 1024 unless set
}

type CIDRBlock struct {
	CIDR string `json:"cidr,omitempty"` // a network
}

type Community struct {
	Name  string `json:"name,omitempty"`  // for prefixAdvertisements
	Value string `json:"value,omitempty"` // AA:NN with 16 bits each, or AA:NN:MM with 32
}

type PrefixAdvertisement struct {
	CIDR        string   `json:"cidr,omitempty"`        // prefixes within get the communities
	Communities []string `json:"communities,omitempty"` // values, or names from communities
}

// BGPPassword refers to a secret that is never in the datastore.
type BGPPassword struct {
	SecretKeyRef *SecretKey `json:"secretKeyRef,omitempty"` // of a Kubernetes secret
}

// SecretKey names one value of a Kubernetes Secret.
type SecretKey struct {
	Name     string `json:"name,omitempty"`     // of the secret
	Key      string `json:"key"`                // of the value in it
	Optional *bool  `json:"optional,omitempty"` // whether it may be missing
}

// BGPPeer is a router that nodes speak BGP with.
type BGPPeer struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     BGPPeerSpec `json:"spec"`
}

type BGPPeerSpec struct {
	Node                     string       `json:"node,omitempty"`                // the node that speaks with the peer; excludes nodeSelector; without both every node does
	NodeSelector             string       `json:"nodeSelector,omitempty"`        // the nodes that speak with the peer
	PeerIP                   string       `json:"peerIP,omitempty"`              // IP, V4:PORT or [V6]:PORT
	PeerSelector             string       `json:"peerSelector,omitempty"`        // nodes to be peers of, in place of peerIP
	ASNumber                 ASNumber     `json:"asNumber,omitempty"`            // of the peer
	LocalASNumber            *ASNumber    `json:"localASNumber,omitempty"`       // the node's own, in this session
	KeepOriginalNextHop      bool         `json:"keepOriginalNextHop,omitempty"` // deprecated: nextHopMode Keep
	NextHopMode              *string      `json:"nextHopMode,omitempty"`         // whose address is the next hop of routes that are passed on
	Password                 *BGPPassword `json:"password,omitempty"`
	SourceAddress            string       `json:"sourceAddress,omitempty"`            // UseNodeIP unless set; None: the kernel chooses
	MaxRestartTime           *Duration    `json:"maxRestartTime,omitempty"`           // how long the peer keeps routes over a restart: 120s unless set
	KeepaliveTime            *Duration    `json:"keepaliveTime,omitempty"`            // between keepalives; the hold time is three times as long, at least 90s
	NumAllowedLocalASNumbers *int32       `json:"numAllowedLocalASNumbers,omitempty"` // how often our own AS may be in a path
	TTLSecurity              *uint8       `json:"ttlSecurity,omitempty"`              // how many hops away the peer may be (RFC 5082); 0: any number
	ReachableBy              string       `json:"reachableBy,omitempty"`              // gateway to the peer; needs peerIP, of its family
	Filters                  []string     `json:"filters,omitempty"`                  // BGPFilters, in order
	LocalWorkloadSelector    string       `json:"localWorkloadSelector,omitempty"`    // workloads of the node to peer with, in place of peerIP
	ReversePeering           *string      `json:"reversePeering,omitempty"`           // Auto: nodes that are peers peer back; Auto unless set
}

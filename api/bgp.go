package api

// BGPConfiguration holds settings of BGP. The object named default is for every node, node.NAME for the node NAME only.
type BGPConfiguration struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     BGPConfigurationSpec `json:"spec"`
}

// BGPConfigurationSpec holds the settings of a BGPConfiguration.
type BGPConfigurationSpec struct {
	LogSeverityScreen              string                `json:"logSeverityScreen,omitempty"`              // kept for Calico's agents; has no effect in Margay
	NodeToNodeMeshEnabled          *bool                 `json:"nodeToNodeMeshEnabled,omitempty"`          // whether every node speaks BGP with every other: true unless set; only in the object named default
	ASNumber                       *ASNumber             `json:"asNumber,omitempty"`                       // AS number of nodes without one of their own: 64512 unless set; only in the object named default
	ServiceLoadBalancerIPs         []CIDRBlock           `json:"serviceLoadBalancerIPs,omitempty"`         // for Kubernetes; has no effect in Margay; only in the object named default
	ServiceExternalIPs             []CIDRBlock           `json:"serviceExternalIPs,omitempty"`             // for Kubernetes; has no effect in Margay; only in the object named default
	ServiceClusterIPs              []CIDRBlock           `json:"serviceClusterIPs,omitempty"`              // for Kubernetes; has no effect in Margay; only in the object named default
	ServiceLoadBalancerAggregation string                `json:"serviceLoadBalancerAggregation,omitempty"` // for Kubernetes; has no effect in Margay
	Communities                    []Community           `json:"communities,omitempty"`                    // names for communities, at most 500; needs prefixAdvertisements
	PrefixAdvertisements           []PrefixAdvertisement `json:"prefixAdvertisements,omitempty"`           // communities for announced prefixes, at most 500
	ListenPort                     uint16                `json:"listenPort,omitempty"`                     // TCP port that nodes accept BGP on: 179 unless set
	NodeMeshPassword               *BGPPassword          `json:"nodeMeshPassword,omitempty"`               // password of the sessions of the mesh; needs the mesh; only in the object named default
	NodeMeshMaxRestartTime         *Duration             `json:"nodeMeshMaxRestartTime,omitempty"`         // how long peers of the mesh keep a restarting node's routes (graceful restart): 120s unless set; only in the object named default
	BindMode                       *string               `json:"bindMode,omitempty"`                       // None: nodes accept BGP on every address; NodeIP: only on the addresses of the Node
	IgnoredInterfaces              []string              `json:"ignoredInterfaces,omitempty"`              // names of interfaces, in which * stands for any text; has no effect in Margay
	LocalWorkloadPeeringIPV4       string                `json:"localWorkloadPeeringIPV4,omitempty"`       // IPv4 address at which workloads peer with their node, the same on every node; nothing else may have it; only in the object named default
	LocalWorkloadPeeringIPV6       string                `json:"localWorkloadPeeringIPV6,omitempty"`       // IPv6 address at which workloads peer with their node, the same on every node; not link-local; only in the object named default
	ProgramClusterRoutes           *string               `json:"programClusterRoutes,omitempty"`           // Disabled or EnabledIPIPOnly: learned routes to pools stay out of the kernel; only in the object named default
	IPv4NormalRoutePriority        *int                  `json:"ipv4NormalRoutePriority,omitempty"`        // metric of learned IPv4 routes in the kernel: 2048 unless set; only in the object named default
	IPv6NormalRoutePriority        *int                  `json:"ipv6NormalRoutePriority,omitempty"`        // metric of learned IPv6 routes in the kernel: 2048 unless set; only in the object named default
}

// CIDRBlock is one range of addresses of Kubernetes services.
type CIDRBlock struct {
	CIDR string `json:"cidr,omitempty"` // a network
}

// Community gives a BGP community a name.
type Community struct {
	Name  string `json:"name,omitempty"`  // name by which prefixAdvertisements refer to the community
	Value string `json:"value,omitempty"` // the community: AA:NN with 16 bits each, or AA:NN:MM with 32 bits each (large community, RFC 8092)
}

// PrefixAdvertisement adds communities to announced prefixes.
type PrefixAdvertisement struct {
	CIDR        string   `json:"cidr,omitempty"`        // announced prefixes within this network get the communities
	Communities []string `json:"communities,omitempty"` // 1 to 50 communities: values, or names from spec.communities
}

// BGPPassword says where each node finds a password of 1 to 80 bytes. The password itself is never in the datastore.
type BGPPassword struct {
	SecretKeyRef *SecretKey `json:"secretKeyRef,omitempty"` // the password is in the file NAME/KEY below felix's --secrets-dir
	FromFile     string     `json:"fromFile,omitempty"`     // the password is in this file of the node, instead of secretKeyRef; only in Margay
	FromEnv      string     `json:"fromEnv,omitempty"`      // the password is in this environment variable of felix, instead of secretKeyRef; only in Margay
}

// SecretKey names a file with a secret. Calico names one value of a Kubernetes Secret in this way.
type SecretKey struct {
	Name     string `json:"name,omitempty"`     // name of the directory below --secrets-dir
	Key      string `json:"key"`                // name of the file in the directory
	Optional *bool  `json:"optional,omitempty"` // kept for Calico's agents; has no effect in Margay: without the file there is no session
}

// BGPPeer is a router, or a group of nodes or workloads, that nodes speak BGP with.
type BGPPeer struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     BGPPeerSpec `json:"spec"`
}

// BGPPeerSpec says which nodes speak with the peer (node or nodeSelector), who the peer is (exactly one of peerIP, peerSelector
// and localWorkloadSelector), and how the session is set up.
type BGPPeerSpec struct {
	Node                     string       `json:"node,omitempty"`                     // the only node that speaks with the peer; excludes nodeSelector; without both, every node does
	NodeSelector             string       `json:"nodeSelector,omitempty"`             // selects the nodes that speak with the peer
	PeerIP                   string       `json:"peerIP,omitempty"`                   // address of the peer: IP, V4:PORT or [V6]:PORT; the port is 179 unless given; a link-local one with its interface, as fe80::1%eth0
	PeerSelector             string       `json:"peerSelector,omitempty"`             // selects nodes to peer with, instead of peerIP
	ASNumber                 ASNumber     `json:"asNumber,omitempty"`                 // AS number of the peer
	LocalASNumber            *ASNumber    `json:"localASNumber,omitempty"`            // the AS number that the node sends to this peer, instead of its own
	KeepOriginalNextHop      bool         `json:"keepOriginalNextHop,omitempty"`      // deprecated; the same as nextHopMode Keep
	NextHopMode              *string      `json:"nextHopMode,omitempty"`              // next hop of routes that the node passes on: Auto, Self (the node) or Keep (unchanged)
	Password                 *BGPPassword `json:"password,omitempty"`                 // password of the session (TCP MD5, RFC 2385)
	SourceAddress            string       `json:"sourceAddress,omitempty"`            // UseNodeIP: connect from the address of the Node; None: the kernel chooses; UseNodeIP unless set
	MaxRestartTime           *Duration    `json:"maxRestartTime,omitempty"`           // how long the peer keeps a restarting node's routes (graceful restart): 120s unless set
	KeepaliveTime            *Duration    `json:"keepaliveTime,omitempty"`            // time between keepalives, in whole seconds of at least 1s: 30s unless set; the session ends when nothing has arrived for three times as long
	NumAllowedLocalASNumbers *int32       `json:"numAllowedLocalASNumbers,omitempty"` // how often the node's own AS number may occur in the path of a route from the peer: 0 unless set, at most 255
	MaxPrefixes              *uint32      `json:"maxPrefixes,omitempty"`              // how many routes the peer may send; one more closes the session: 1000000 unless set, 1000 for workloads; only in Margay
	TTLSecurity              *uint8       `json:"ttlSecurity,omitempty"`              // how many hops away the peer may be (RFC 5082); 0: any number
	ReachableBy              string       `json:"reachableBy,omitempty"`              // address of the gateway to the peer, of the same family, on a network of the node; needs peerIP; the agent adds a route to the peer by it, and opens no session without that route
	Filters                  []string     `json:"filters,omitempty"`                  // names of BGPFilters, in order of evaluation
	LocalWorkloadSelector    string       `json:"localWorkloadSelector,omitempty"`    // selects workloads of the node to peer with, instead of peerIP: they connect to localWorkloadPeeringIPV4 or localWorkloadPeeringIPV6 of BGPConfiguration; needs asNumber; routes of them are used only if a filter accepts them
	ReversePeering           *string      `json:"reversePeering,omitempty"`           // Auto: nodes that peerSelector selects peer back; Manual: they do not; Auto unless set
}

package api

import "encoding/json"

// BGPConfiguration named default holds for every node, node.NAME for one.
type BGPConfiguration struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     BGPConfigurationSpec `json:"spec"`
}

type BGPConfigurationSpec struct {
	LogSeverityScreen              string                `json:"logSeverityScreen,omitempty"`
	NodeToNodeMeshEnabled          *bool                 `json:"nodeToNodeMeshEnabled,omitempty"`
	ASNumber                       *ASNumber             `json:"asNumber,omitempty"`
	ServiceLoadBalancerIPs         []CIDRBlock           `json:"serviceLoadBalancerIPs,omitempty"`
	ServiceExternalIPs             []CIDRBlock           `json:"serviceExternalIPs,omitempty"`
	ServiceClusterIPs              []CIDRBlock           `json:"serviceClusterIPs,omitempty"`
	ServiceLoadBalancerAggregation string                `json:"serviceLoadBalancerAggregation,omitempty"`
	Communities                    []Community           `json:"communities,omitempty"`
	PrefixAdvertisements           []PrefixAdvertisement `json:"prefixAdvertisements,omitempty"`
	ListenPort                     uint16                `json:"listenPort,omitempty"`
	NodeMeshPassword               *BGPPassword          `json:"nodeMeshPassword,omitempty"`
	NodeMeshMaxRestartTime         *Duration             `json:"nodeMeshMaxRestartTime,omitempty"`
	BindMode                       *string               `json:"bindMode,omitempty"`
	IgnoredInterfaces              []string              `json:"ignoredInterfaces,omitempty"`
	LocalWorkloadPeeringIPV4       string                `json:"localWorkloadPeeringIPV4,omitempty"`
	LocalWorkloadPeeringIPV6       string                `json:"localWorkloadPeeringIPV6,omitempty"`
	ProgramClusterRoutes           *string               `json:"programClusterRoutes,omitempty"`
	IPv4NormalRoutePriority        *int                  `json:"ipv4NormalRoutePriority,omitempty"`
	IPv6NormalRoutePriority        *int                  `json:"ipv6NormalRoutePriority,omitempty"`
}

type CIDRBlock struct {
	CIDR string `json:"cidr,omitempty"`
}

type Community struct {
	Name  string `json:"name,omitempty"`
	Value string `json:"value,omitempty"`
}

type PrefixAdvertisement struct {
	CIDR        string   `json:"cidr,omitempty"`
	Communities []string `json:"communities,omitempty"`
}

// BGPPassword refers to a secret that is never in the datastore.
type BGPPassword struct {
	SecretKeyRef json.RawMessage `json:"secretKeyRef,omitempty"`
}

// BGPPeer is a router that nodes speak BGP with.
type BGPPeer struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     BGPPeerSpec `json:"spec"`
}

type BGPPeerSpec struct {
	Node                     string       `json:"node,omitempty"`
	NodeSelector             string       `json:"nodeSelector,omitempty"`
	PeerIP                   string       `json:"peerIP,omitempty"` // IP, V4:PORT or [V6]:PORT
	PeerSelector             string       `json:"peerSelector,omitempty"`
	ASNumber                 ASNumber     `json:"asNumber,omitempty"`
	LocalASNumber            *ASNumber    `json:"localASNumber,omitempty"`
	KeepOriginalNextHop      bool         `json:"keepOriginalNextHop,omitempty"`
	NextHopMode              *string      `json:"nextHopMode,omitempty"`
	Password                 *BGPPassword `json:"password,omitempty"`
	SourceAddress            string       `json:"sourceAddress,omitempty"`
	MaxRestartTime           *Duration    `json:"maxRestartTime,omitempty"`
	KeepaliveTime            *Duration    `json:"keepaliveTime,omitempty"`
	NumAllowedLocalASNumbers *int32       `json:"numAllowedLocalASNumbers,omitempty"`
	TTLSecurity              *uint8       `json:"ttlSecurity,omitempty"`
	ReachableBy              string       `json:"reachableBy,omitempty"`
	Filters                  []string     `json:"filters,omitempty"`
	LocalWorkloadSelector    string       `json:"localWorkloadSelector,omitempty"`
	ReversePeering           *string      `json:"reversePeering,omitempty"`
}

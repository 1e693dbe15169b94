package api

// IPPool is a range of addresses for workloads.
type IPPool struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     IPPoolSpec    `json:"spec"`
	Status   *IPPoolStatus `json:"status,omitempty"`
}

type IPPoolSpec struct {
	CIDR              string   `json:"cidr"`
	VXLANMode         string   `json:"vxlanMode,omitempty"` // Never, Always, CrossSubnet
	IPIPMode          string   `json:"ipipMode,omitempty"`  // Never, Always, CrossSubnet
	NATOutgoing       bool     `json:"natOutgoing,omitempty"`
	Disabled          bool     `json:"disabled,omitempty"`
	DisableBGPExport  bool     `json:"disableBGPExport,omitempty"`
	BlockSize         int      `json:"blockSize,omitempty"` // prefix length of a block: 20 to 32, or 116 to 128
	NodeSelector      string   `json:"nodeSelector,omitempty"`
	NamespaceSelector string   `json:"namespaceSelector,omitempty"`
	AllowedUses       []string `json:"allowedUses,omitempty"`
	AssignmentMode    *string  `json:"assignmentMode,omitempty"`
}

type IPPoolStatus struct {
	Conditions []Condition `json:"conditions,omitempty"`
}

// Node is a machine that runs the agent.
type Node struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     NodeSpec   `json:"spec"`
	Status   NodeStatus `json:"status"`
}

type NodeSpec struct {
	BGP                  *NodeBGPSpec    `json:"bgp,omitempty"`
	IPv4VXLANTunnelAddr  string          `json:"ipv4VXLANTunnelAddr,omitempty"`
	VXLANTunnelMACAddr   string          `json:"vxlanTunnelMACAddr,omitempty"`
	IPv6VXLANTunnelAddr  string          `json:"ipv6VXLANTunnelAddr,omitempty"`
	VXLANTunnelMACAddrV6 string          `json:"vxlanTunnelMACAddrV6,omitempty"`
	OrchRefs             []OrchRef       `json:"orchRefs,omitempty"`
	Wireguard            *NodeWireguard  `json:"wireguard,omitempty"`
	Addresses            []NodeAddress   `json:"addresses,omitempty"`
	Interfaces           []NodeInterface `json:"interfaces,omitempty"`
}

type NodeBGPSpec struct {
	ASNumber                *ASNumber `json:"asNumber,omitempty"`
	IPv4Address             string    `json:"ipv4Address,omitempty"` // CIDR
	IPv6Address             string    `json:"ipv6Address,omitempty"` // CIDR
	IPv4IPIPTunnelAddr      string    `json:"ipv4IPIPTunnelAddr,omitempty"`
	RouteReflectorClusterID string    `json:"routeReflectorClusterID,omitempty"`
}

type OrchRef struct {
	NodeName     string `json:"nodeName,omitempty"`
	Orchestrator string `json:"orchestrator"`
}

type NodeWireguard struct {
	InterfaceIPv4Address string `json:"interfaceIPv4Address,omitempty"`
	InterfaceIPv6Address string `json:"interfaceIPv6Address,omitempty"`
}

type NodeAddress struct {
	Address string `json:"address"`
	Type    string `json:"type,omitempty"` // CalicoNodeIP, InternalIP, ExternalIP
}

type NodeInterface struct {
	Name      string   `json:"name,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
}

type NodeStatus struct {
	WireguardPublicKey   string   `json:"wireguardPublicKey,omitempty"`
	WireguardPublicKeyV6 string   `json:"wireguardPublicKeyV6,omitempty"`
	PodCIDRs             []string `json:"podCIDRs,omitempty"`
}

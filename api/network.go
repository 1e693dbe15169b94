package api

// IPPool is a range of addresses for workloads.
type IPPool struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     IPPoolSpec    `json:"spec"`
	Status   *IPPoolStatus `json:"status,omitempty"`
}

type IPPoolSpec struct {
	CIDR              string   `json:"cidr"`                        // must not overlap another pool, 169.254.0.0/16 or fe80::/10; cannot be changed
	VXLANMode         string   `json:"vxlanMode,omitempty"`         // Never, Always, CrossSubnet
	IPIPMode          string   `json:"ipipMode,omitempty"`          // Never, Always, CrossSubnet
	NATOutgoing       bool     `json:"natOutgoing,omitempty"`       // traffic from the pool to outside of every pool leaves with the host's address
	Disabled          bool     `json:"disabled,omitempty"`          // gives out no more addresses, and its blocks are not announced
	DisableBGPExport  bool     `json:"disableBGPExport,omitempty"`  // its routes are never announced
	BlockSize         int      `json:"blockSize,omitempty"`         // prefix length of a block: 20 to 32, or 116 to 128
	NodeSelector      string   `json:"nodeSelector,omitempty"`      // nodes that may take blocks of it
	NamespaceSelector string   `json:"namespaceSelector,omitempty"` // namespaces whose workloads may have its addresses; not with the use Tunnel
	AllowedUses       []string `json:"allowedUses,omitempty"`       // LoadBalancer excludes the others
	AssignmentMode    *string  `json:"assignmentMode,omitempty"`    // Manual: only for those that ask for the pool
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
	BGP                  *NodeBGPSpec    `json:"bgp,omitempty"`                  // addresses and numbers for BGP
	IPv4VXLANTunnelAddr  string          `json:"ipv4VXLANTunnelAddr,omitempty"`  // written by Calico's agents
	VXLANTunnelMACAddr   string          `json:"vxlanTunnelMACAddr,omitempty"`   // written by Calico's agents
	IPv6VXLANTunnelAddr  string          `json:"ipv6VXLANTunnelAddr,omitempty"`  // written by Calico's agents
	VXLANTunnelMACAddrV6 string          `json:"vxlanTunnelMACAddrV6,omitempty"` // written by Calico's agents
	OrchRefs             []OrchRef       `json:"orchRefs,omitempty"`             // what orchestrators call the node
	Wireguard            *NodeWireguard  `json:"wireguard,omitempty"`            // kept, no effect here
	Addresses            []NodeAddress   `json:"addresses,omitempty"`            // of the node
	Interfaces           []NodeInterface `json:"interfaces,omitempty"`           // of the node
}

type NodeBGPSpec struct {
	ASNumber                *ASNumber `json:"asNumber,omitempty"`                // that of the BGPConfiguration unless set
	IPv4Address             string    `json:"ipv4Address,omitempty"`             // CIDR
	IPv6Address             string    `json:"ipv6Address,omitempty"`             // CIDR
	IPv4IPIPTunnelAddr      string    `json:"ipv4IPIPTunnelAddr,omitempty"`      // written by Calico's agents
	RouteReflectorClusterID string    `json:"routeReflectorClusterID,omitempty"` // like an IPv4 address; makes the node a route reflector
}

type OrchRef struct {
	NodeName     string `json:"nodeName,omitempty"` // as the orchestrator calls it
	Orchestrator string `json:"orchestrator"`       // k8s and the like
}

type NodeWireguard struct {
	InterfaceIPv4Address string `json:"interfaceIPv4Address,omitempty"` // kept, no effect here
	InterfaceIPv6Address string `json:"interfaceIPv6Address,omitempty"` // kept, no effect here
}

type NodeAddress struct {
	Address string `json:"address"`        // an address or a CIDR
	Type    string `json:"type,omitempty"` // CalicoNodeIP, InternalIP, ExternalIP
}

type NodeInterface struct {
	Name      string   `json:"name,omitempty"`      // as the kernel calls it
	Addresses []string `json:"addresses,omitempty"` // of the interface
}

type NodeStatus struct {
	WireguardPublicKey   string   `json:"wireguardPublicKey,omitempty"`   // kept, no effect here
	WireguardPublicKeyV6 string   `json:"wireguardPublicKeyV6,omitempty"` // kept, no effect here
	PodCIDRs             []string `json:"podCIDRs,omitempty"`             // kept, no effect here
}

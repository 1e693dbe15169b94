package api

// IPPool is a range of addresses for workloads.
type IPPool struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     IPPoolSpec    `json:"spec"`
	Status   *IPPoolStatus `json:"status,omitempty"`
}

// IPPoolSpec says which addresses the pool has, who may use them, and how routes to them are announced.
type IPPoolSpec struct {
	CIDR              string   `json:"cidr"`                        // network of the pool; it must not overlap another pool, 169.254.0.0/16 or fe80::/10, and cannot be changed
	VXLANMode         string   `json:"vxlanMode,omitempty"`         // Never, Always, CrossSubnet
	IPIPMode          string   `json:"ipipMode,omitempty"`          // Never, Always, CrossSubnet
	NATOutgoing       bool     `json:"natOutgoing,omitempty"`       // whether packets from the pool to addresses outside of every pool leave with the host's address
	Disabled          bool     `json:"disabled,omitempty"`          // whether the pool gives out no more addresses; its blocks are then not announced
	DisableBGPExport  bool     `json:"disableBGPExport,omitempty"`  // whether routes to the pool are never announced
	BlockSize         int      `json:"blockSize,omitempty"`         // prefix length of a block: 20 to 32 (26 unless set) for IPv4, 116 to 128 (122 unless set) for IPv6
	NodeSelector      string   `json:"nodeSelector,omitempty"`      // selects the nodes that may claim blocks of the pool
	NamespaceSelector string   `json:"namespaceSelector,omitempty"` // selects the namespaces whose workloads may get addresses of the pool; not with the use Tunnel
	AllowedUses       []string `json:"allowedUses,omitempty"`       // Workload, Tunnel, LoadBalancer; LoadBalancer excludes the others
	AssignmentMode    *string  `json:"assignmentMode,omitempty"`    // Automatic, or Manual: only workloads that ask for the pool get addresses of it
}

// IPPoolStatus is written by controllers.
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

// NodeSpec holds the addresses and numbers of a node.
type NodeSpec struct {
	BGP                  *NodeBGPSpec    `json:"bgp,omitempty"`                  // addresses and numbers for BGP
	IPv4VXLANTunnelAddr  string          `json:"ipv4VXLANTunnelAddr,omitempty"`  // written by Calico's agents
	VXLANTunnelMACAddr   string          `json:"vxlanTunnelMACAddr,omitempty"`   // written by Calico's agents
	IPv6VXLANTunnelAddr  string          `json:"ipv6VXLANTunnelAddr,omitempty"`  // written by Calico's agents
	VXLANTunnelMACAddrV6 string          `json:"vxlanTunnelMACAddrV6,omitempty"` // written by Calico's agents
	OrchRefs             []OrchRef       `json:"orchRefs,omitempty"`             // names of the node in orchestrators
	Wireguard            *NodeWireguard  `json:"wireguard,omitempty"`            // kept; has no effect in Margay
	Addresses            []NodeAddress   `json:"addresses,omitempty"`            // addresses of the node
	Interfaces           []NodeInterface `json:"interfaces,omitempty"`           // network interfaces of the node
}

// NodeBGPSpec holds the settings of a node's BGP sessions.
type NodeBGPSpec struct {
	ASNumber                *ASNumber `json:"asNumber,omitempty"`                // AS number of the node: that of the BGPConfiguration unless set
	IPv4Address             string    `json:"ipv4Address,omitempty"`             // IPv4 address of the node, with the prefix length of its network: 192.0.2.1/24
	IPv6Address             string    `json:"ipv6Address,omitempty"`             // IPv6 address of the node, with the prefix length of its network: 2001:db8::1/64
	IPv4IPIPTunnelAddr      string    `json:"ipv4IPIPTunnelAddr,omitempty"`      // written by Calico's agents
	RouteReflectorClusterID string    `json:"routeReflectorClusterID,omitempty"` // cluster ID (RFC 4456), written like an IPv4 address; it makes the node a route reflector
}

// OrchRef is the name of a node in an orchestrator.
type OrchRef struct {
	NodeName     string `json:"nodeName,omitempty"` // name of the node there
	Orchestrator string `json:"orchestrator"`       // the orchestrator, for example k8s
}

// NodeWireguard holds the addresses of a node's WireGuard interface. It is kept and has no effect in Margay.
type NodeWireguard struct {
	InterfaceIPv4Address string `json:"interfaceIPv4Address,omitempty"` // kept; has no effect in Margay
	InterfaceIPv6Address string `json:"interfaceIPv6Address,omitempty"` // kept; has no effect in Margay
}

// NodeAddress is one address of a node.
type NodeAddress struct {
	Address string `json:"address"`        // an address or a CIDR
	Type    string `json:"type,omitempty"` // CalicoNodeIP, InternalIP, ExternalIP
}

// NodeInterface is one network interface of a node.
type NodeInterface struct {
	Name      string   `json:"name,omitempty"`      // name of the interface in the kernel
	Addresses []string `json:"addresses,omitempty"` // addresses of the interface
}

// NodeStatus is written by Calico's agents. It has no effect in Margay.
type NodeStatus struct {
	WireguardPublicKey   string   `json:"wireguardPublicKey,omitempty"`   // kept; has no effect in Margay
	WireguardPublicKeyV6 string   `json:"wireguardPublicKeyV6,omitempty"` // kept; has no effect in Margay
	PodCIDRs             []string `json:"podCIDRs,omitempty"`             // kept; has no effect in Margay
}

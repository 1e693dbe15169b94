package api

// WorkloadEndpoint is one interface of a virtual machine or other workload.
type WorkloadEndpoint struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     WorkloadEndpointSpec `json:"spec"`
}

type WorkloadEndpointSpec struct {
	Orchestrator               string         `json:"orchestrator,omitempty"`
	Workload                   string         `json:"workload,omitempty"`
	Node                       string         `json:"node,omitempty"`
	ContainerID                string         `json:"containerID,omitempty"`
	Pod                        string         `json:"pod,omitempty"`
	Endpoint                   string         `json:"endpoint,omitempty"`
	ServiceAccountName         string         `json:"serviceAccountName,omitempty"`
	IPNetworks                 []string       `json:"ipNetworks,omitempty"` // /32, /128 or bare addresses
	IPNATs                     []IPNAT        `json:"ipNATs,omitempty"`
	IPv4Gateway                string         `json:"ipv4Gateway,omitempty"`
	IPv6Gateway                string         `json:"ipv6Gateway,omitempty"`
	Profiles                   []string       `json:"profiles,omitempty"`
	InterfaceName              string         `json:"interfaceName,omitempty"`
	MAC                        string         `json:"mac,omitempty"`
	Ports                      []WorkloadPort `json:"ports,omitempty"`
	AllowSpoofedSourcePrefixes []string       `json:"allowSpoofedSourcePrefixes,omitempty"`
	QoSControls                *QoSControls   `json:"qosControls,omitempty"`
}

type IPNAT struct {
	InternalIP string `json:"internalIP"`
	ExternalIP string `json:"externalIP"`
}

type WorkloadPort struct {
	Name     string   `json:"name,omitempty"`
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port"`
	HostPort uint16   `json:"hostPort"`
	HostIP   string   `json:"hostIP"`
}

// QoSControls is stored; the dataplane does not enforce it yet.
type QoSControls struct {
	IngressBandwidth      int64 `json:"ingressBandwidth,omitempty"`
	EgressBandwidth       int64 `json:"egressBandwidth,omitempty"`
	IngressBurst          int64 `json:"ingressBurst,omitempty"`
	EgressBurst           int64 `json:"egressBurst,omitempty"`
	IngressPeakrate       int64 `json:"ingressPeakrate,omitempty"`
	EgressPeakrate        int64 `json:"egressPeakrate,omitempty"`
	IngressMinburst       int64 `json:"ingressMinburst,omitempty"`
	EgressMinburst        int64 `json:"egressMinburst,omitempty"`
	IngressPacketRate     int64 `json:"ingressPacketRate,omitempty"`
	EgressPacketRate      int64 `json:"egressPacketRate,omitempty"`
	IngressPacketBurst    int64 `json:"ingressPacketBurst,omitempty"`
	EgressPacketBurst     int64 `json:"egressPacketBurst,omitempty"`
	IngressMaxConnections int64 `json:"ingressMaxConnections,omitempty"`
	EgressMaxConnections  int64 `json:"egressMaxConnections,omitempty"`
	DSCP                  any   `json:"dscp,omitempty"`
}

// HostEndpoint is an interface of the host itself.
type HostEndpoint struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     HostEndpointSpec `json:"spec"`
}

type HostEndpointSpec struct {
	Node          string         `json:"node,omitempty"`
	InterfaceName string         `json:"interfaceName,omitempty"` // a name, or * for every interface of the host
	ExpectedIPs   []string       `json:"expectedIPs,omitempty"`
	Profiles      []string       `json:"profiles,omitempty"`
	Ports         []EndpointPort `json:"ports,omitempty"`
}

type EndpointPort struct {
	Name     string   `json:"name"`
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port"`
}

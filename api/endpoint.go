package api

// WorkloadEndpoint is one interface of a virtual machine or other workload.
type WorkloadEndpoint struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     WorkloadEndpointSpec `json:"spec"`
}

type WorkloadEndpointSpec struct {
	Orchestrator               string         `json:"orchestrator,omitempty"`               // what runs the workload: openstack, libvirt, k8s, cni or any word
	Workload                   string         `json:"workload,omitempty"`                   // the VM's name, unless the orchestrator is k8s, cni or libnetwork
	Node                       string         `json:"node,omitempty"`                       // where it runs
	ContainerID                string         `json:"containerID,omitempty"`                // for the orchestrator cni
	Pod                        string         `json:"pod,omitempty"`                        // for the orchestrator k8s
	Endpoint                   string         `json:"endpoint,omitempty"`                   // its interface, as the workload calls it
	ServiceAccountName         string         `json:"serviceAccountName,omitempty"`         // kept, no effect here
	IPNetworks                 []string       `json:"ipNetworks,omitempty"`                 // /32, /128 or bare addresses
	IPNATs                     []IPNAT        `json:"ipNATs,omitempty"`                     // kept, no effect here
	IPv4Gateway                string         `json:"ipv4Gateway,omitempty"`                // kept, no effect here
	IPv6Gateway                string         `json:"ipv6Gateway,omitempty"`                // kept, no effect here
	Profiles                   []string       `json:"profiles,omitempty"`                   // in order: labels, and rules for what no tier decides
	InterfaceName              string         `json:"interfaceName,omitempty"`              // the host's end of its interface
	MAC                        string         `json:"mac,omitempty"`                        // when given, no other may send
	Ports                      []WorkloadPort `json:"ports,omitempty"`                      // names for its ports, which rules may use
	AllowSpoofedSourcePrefixes []string       `json:"allowSpoofedSourcePrefixes,omitempty"` // further sources that it may send from
	QoSControls                *QoSControls   `json:"qosControls,omitempty"`
}

type IPNAT struct {
	InternalIP string `json:"internalIP"` // one of ipNetworks
	ExternalIP string `json:"externalIP"` // of the same family
}

type WorkloadPort struct {
	Name     string   `json:"name,omitempty"` // may be left out when there is a hostPort
	Protocol Protocol `json:"protocol"`       // TCP, UDP or SCTP
	Port     uint16   `json:"port"`           // a number
	HostPort uint16   `json:"hostPort"`       // kept, no effect here
	HostIP   string   `json:"hostIP"`         // kept, no effect here
}

// QoSControls is stored; the dataplane does not enforce it yet.
type QoSControls struct {
	IngressBandwidth      int64 `json:"ingressBandwidth,omitempty"`      // bits a second
	EgressBandwidth       int64 `json:"egressBandwidth,omitempty"`       // bits a second
	IngressBurst          int64 `json:"ingressBurst,omitempty"`          // bits
	EgressBurst           int64 `json:"egressBurst,omitempty"`           // bits
	IngressPeakrate       int64 `json:"ingressPeakrate,omitempty"`       // bits a second
	EgressPeakrate        int64 `json:"egressPeakrate,omitempty"`        // bits a second
	IngressMinburst       int64 `json:"ingressMinburst,omitempty"`       // bits
	EgressMinburst        int64 `json:"egressMinburst,omitempty"`        // bits
	IngressPacketRate     int64 `json:"ingressPacketRate,omitempty"`     // packets a second
	EgressPacketRate      int64 `json:"egressPacketRate,omitempty"`      // packets a second
	IngressPacketBurst    int64 `json:"ingressPacketBurst,omitempty"`    // packets
	EgressPacketBurst     int64 `json:"egressPacketBurst,omitempty"`     // packets
	IngressMaxConnections int64 `json:"ingressMaxConnections,omitempty"` // at a time
	EgressMaxConnections  int64 `json:"egressMaxConnections,omitempty"`  // at a time
	DSCP                  *DSCP `json:"dscp,omitempty"`                  // a number or the name of a class, such as EF or AF11
}

// HostEndpoint is an interface of the host itself.
type HostEndpoint struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     HostEndpointSpec `json:"spec"`
}

type HostEndpointSpec struct {
	Node          string         `json:"node,omitempty"`          // whose interface it is
	InterfaceName string         `json:"interfaceName,omitempty"` // a name, or * for every interface of the host
	ExpectedIPs   []string       `json:"expectedIPs,omitempty"`   // addresses of the interface: they find it when no name is given, and are members of sets
	Profiles      []string       `json:"profiles,omitempty"`      // in order: labels, and rules for what no tier decides
	Ports         []EndpointPort `json:"ports,omitempty"`         // names for its ports, which rules may use
}

type EndpointPort struct {
	Name     string   `json:"name"`     // for rules
	Protocol Protocol `json:"protocol"` // TCP, UDP or SCTP
	Port     uint16   `json:"port"`     // a number
}

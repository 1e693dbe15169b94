package api

import "strings"

// WorkloadEndpoint is one interface of a virtual machine or other workload.
type WorkloadEndpoint struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     WorkloadEndpointSpec `json:"spec"`
}

// WorkloadEndpointSpec says where the interface is, which addresses it has, and how packets are judged that no policy decides.
// Node, orchestrator, workload and endpoint make up the name of the object; see WorkloadEndpointName.
type WorkloadEndpointSpec struct {
	Orchestrator               string         `json:"orchestrator,omitempty"`               // program that runs the workload: openstack, libvirt, k8s, cni or any other word
	Workload                   string         `json:"workload,omitempty"`                   // name of the workload, for example the VM; not used with the orchestrators k8s, cni and libnetwork
	Node                       string         `json:"node,omitempty"`                       // name of the Node that the workload runs on
	ContainerID                string         `json:"containerID,omitempty"`                // ID of the container; only with the orchestrator cni
	Pod                        string         `json:"pod,omitempty"`                        // name of the pod; only with the orchestrator k8s
	Endpoint                   string         `json:"endpoint,omitempty"`                   // name of the interface inside of the workload, for example eth0
	ServiceAccountName         string         `json:"serviceAccountName,omitempty"`         // kept; has no effect in Margay
	IPNetworks                 []string       `json:"ipNetworks,omitempty"`                 // addresses of the interface: bare, or with the prefix length /32 or /128
	IPNATs                     []IPNAT        `json:"ipNATs,omitempty"`                     // kept; has no effect in Margay
	IPv4Gateway                string         `json:"ipv4Gateway,omitempty"`                // kept; has no effect in Margay
	IPv6Gateway                string         `json:"ipv6Gateway,omitempty"`                // kept; has no effect in Margay
	Profiles                   []string       `json:"profiles,omitempty"`                   // names of Profiles, in order: they add labels, and their rules decide packets that no tier decides
	InterfaceName              string         `json:"interfaceName,omitempty"`              // name of the interface on the host, at most 15 characters; or an alternative name or the alias of one, if none has that name
	MAC                        string         `json:"mac,omitempty"`                        // MAC address of the interface; if it is given, packets from other MAC addresses are dropped
	Ports                      []WorkloadPort `json:"ports,omitempty"`                      // names for ports of the endpoint, which rules may use
	AllowSpoofedSourcePrefixes []string       `json:"allowSpoofedSourcePrefixes,omitempty"` // networks that the workload may use as source addresses besides its own
	QoSControls                *QoSControls   `json:"qosControls,omitempty"`
}

// IPNAT maps an external address to an address of the endpoint (floating IP). It is kept and has no effect in Margay.
type IPNAT struct {
	InternalIP string `json:"internalIP"` // one of ipNetworks
	ExternalIP string `json:"externalIP"` // address of the same family as internalIP
}

// WorkloadPort gives a port of a workload endpoint a name.
type WorkloadPort struct {
	Name     string   `json:"name,omitempty"` // name that rules use: a-z, 0-9 and dashes, at most 15 characters; may be left out if there is a hostPort
	Protocol Protocol `json:"protocol"`       // TCP, UDP or SCTP
	Port     uint16   `json:"port"`           // 1 to 65535
	HostPort uint16   `json:"hostPort"`       // kept; has no effect in Margay
	HostIP   string   `json:"hostIP"`         // kept; has no effect in Margay
}

// QoSControls limits the traffic of a workload. It is stored; the dataplane does not enforce it yet. Ingress is traffic to the
// workload, egress is traffic from it.
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
	IngressMaxConnections int64 `json:"ingressMaxConnections,omitempty"` // connections at the same time
	EgressMaxConnections  int64 `json:"egressMaxConnections,omitempty"`  // connections at the same time
	DSCP                  *DSCP `json:"dscp,omitempty"`                  // mark of the packets: a number or the name of a class, such as EF or AF11
}

// HostEndpoint puts an interface of a host under policy.
type HostEndpoint struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     HostEndpointSpec `json:"spec"`
}

// HostEndpointSpec says which interface of which node the endpoint is. It needs interfaceName or expectedIPs.
type HostEndpointSpec struct {
	Node          string         `json:"node,omitempty"`          // name of the Node whose interface it is
	InterfaceName string         `json:"interfaceName,omitempty"` // name of the interface, or * for every interface of the host
	ExpectedIPs   []string       `json:"expectedIPs,omitempty"`   // addresses of the interface; they find the interface if interfaceName is empty, and selectors in rules match them
	Profiles      []string       `json:"profiles,omitempty"`      // names of Profiles, in order: they add labels, and their rules decide packets that no tier decides
	Ports         []EndpointPort `json:"ports,omitempty"`         // names for ports of the endpoint, which rules may use
}

// EndpointPort gives a port of a host endpoint a name.
type EndpointPort struct {
	Name     string   `json:"name"`     // name that rules use: a-z, 0-9 and dashes, at most 15 characters
	Protocol Protocol `json:"protocol"` // TCP, UDP or SCTP
	Port     uint16   `json:"port"`     // 1 to 65535
}

// Hostname is the workload's name, if it can be the name of a machine (RFC 1123, section 2.1). It is empty otherwise.
func (s *WorkloadEndpointSpec) Hostname() string {
	if name := strings.ToLower(s.Workload); isLabel(name) && len(name) <= 63 {
		return name
	}
	return ""
}

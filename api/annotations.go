package api

// Annotation is an annotation that Margay reads.
type Annotation struct {
	Kind    string // of the objects that may have it
	Name    string
	Meaning string
}

// Annotations returns all annotations that Margay reads.
func Annotations() []Annotation {
	return []Annotation{
		{KindNode, DrainAnnotation, "draining: peers of BGP get the routes of the node as the last choice; drained: they get none. margayctl node drain and undrain set it"},
		{KindWorkloadEndpoint, AddressAnnotation, `asks the agent of the node for addresses, if ipNetworks is empty: JSON such as ` +
			`{"pools": ["vms"], "count": 1, "ipv6Count": 0}, or {} for one IPv4 address; count and ipv6Count are at most 64 each`},
		{KindWorkloadEndpoint, MadeByAnnotation, "the command that has made the endpoint and may change or remove it: margayctl workload, margayctl vm, or margay-cni"},
		{KindWorkloadEndpoint, DomainAnnotation, "the libvirt domain whose interface the endpoint is. margayctl vm sets it"},
		{KindWorkloadEndpoint, NetworkAnnotation, "the CNI network that the endpoint is in. margay-cni sets it"},
		{KindWorkloadEndpoint, MissingSinceAnnotation, "since when the endpoint has no interface, in RFC 3339. margayctl workload gc sets and removes it"},
	}
}

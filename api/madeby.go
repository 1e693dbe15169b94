package api

import "strings"

// MadeByAnnotation names the command that has made a WorkloadEndpoint. Only that command changes and removes the endpoint.
const MadeByAnnotation = "margay.io/made-by"

// Values of MadeByAnnotation: the commands that make endpoints.
const (
	MadeByWorkload = "margayctl workload"
	MadeByVM       = "margayctl vm"
	MadeByCNI      = "margay-cni"
)

// Makers returns all values of MadeByAnnotation.
func Makers() []string { return []string{MadeByWorkload, MadeByVM, MadeByCNI} }

// MissingSinceAnnotation is the time, in RFC 3339, since when margayctl workload gc finds no interface for a WorkloadEndpoint.
const MissingSinceAnnotation = "margay.io/missing-since"

// DomainAnnotation is the name of the libvirt domain whose interface a WorkloadEndpoint is.
const DomainAnnotation = "margay.io/libvirt-domain"

// NetworkAnnotation is the name of the CNI network that a WorkloadEndpoint is in.
const NetworkAnnotation = "margay.io/cni-network"

// AddressHandle returns the IPAM handle under which an endpoint holds addresses: an address, or "ipam" for all that were chosen for it.
// Dots of the namespace are doubled: names of endpoints have single dots too, and no two endpoints may have one handle.
func AddressHandle(endpoint Key, of string) string {
	return HandlePrefix + strings.ReplaceAll(endpoint.Namespace, ".", "..") + "." + endpoint.Name + "." + of
}

// ChosenAddresses is the end of the handle of addresses that an allocator has chosen for an endpoint.
const ChosenAddresses = "ipam"

// AddressAttributes returns the details that IPAM records about an endpoint that holds an address.
func AddressAttributes(node string, endpoint Key) map[string]string {
	return map[string]string{"node": node, "namespace": endpoint.Namespace, "pod": endpoint.Name}
}

package ipam

import (
	"net/netip"
	"strings"
)

// Prefixes and keys of the records.
const (
	Root         = "/calico/ipam/v2/"
	BlockRoot    = Root + "assignment/"
	AffinityRoot = Root + "host/"

	virtualRoot = Root + "virtual/"
	handleRoot  = Root + "handle/"
	configKey   = Root + "config"
)

// BlockName returns the CIDR of a block as keys spell it: 10.0.0.0-26.
func BlockName(cidr netip.Prefix) string {
	return strings.ReplaceAll(cidr.Masked().String(), "/", "-")
}

// ParseBlockName parses the CIDR of a block as keys spell it.
func ParseBlockName(name string) (netip.Prefix, bool) {
	cidr, err := netip.ParsePrefix(strings.ReplaceAll(name, "-", "/"))
	return cidr, err == nil && cidr == cidr.Masked()
}

// BlockKey returns the key of a block.
func BlockKey(cidr netip.Prefix) string {
	return BlockRoot + family(cidr.Addr()) + "/block/" + BlockName(cidr)
}

// AffinityKey returns the key of a node's claim on a block.
func AffinityKey(node string, cidr netip.Prefix) string {
	return AffinityRoot + node + "/" + family(cidr.Addr()) + "/block/" + BlockName(cidr)
}

// ParseBlockKey returns the CIDR of the block with this key; false if it is not the key of a block.
func ParseBlockKey(key string) (netip.Prefix, bool) {
	rest, ok := strings.CutPrefix(key, BlockRoot)
	if !ok {
		return netip.Prefix{}, false
	}
	part := strings.Split(rest, "/")
	if len(part) != 3 || part[1] != "block" {
		return netip.Prefix{}, false
	}
	cidr, ok := ParseBlockName(part[2])
	return cidr, ok && part[0] == family(cidr.Addr())
}

// ParseAffinityKey returns the node and the CIDR of the claim with this key; false if it is not the key of a claim.
func ParseAffinityKey(key string) (node string, cidr netip.Prefix, ok bool) {
	rest, ok := strings.CutPrefix(key, AffinityRoot)
	if !ok {
		return "", netip.Prefix{}, false
	}
	part := strings.Split(rest, "/")
	if len(part) != 4 || part[0] == "" || part[2] != "block" {
		return "", netip.Prefix{}, false
	}
	cidr, ok = ParseBlockName(part[3])
	return part[0], cidr, ok && part[1] == family(cidr.Addr())
}

// parseClaimKey returns the owner of a claim, as in blocks, and the CIDR of the claimed block. It accepts claims of virtual owners too.
func parseClaimKey(key string) (owner string, cidr netip.Prefix, ok bool) {
	if rest, virtual := strings.CutPrefix(key, virtualRoot); virtual {
		owner, cidr, ok = ParseAffinityKey(AffinityRoot + rest) // they differ only in the root
		return virtualOwner + owner, cidr, ok
	}
	owner, cidr, ok = ParseAffinityKey(key)
	return ownerOf(owner), cidr, ok
}

func family(addr netip.Addr) string { return familyName(addr.Is4()) }

func familyName(v4 bool) string {
	if v4 {
		return "ipv4"
	}
	return "ipv6"
}

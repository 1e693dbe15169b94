package calc

import (
	"fmt"
	"hash/fnv"
	"net/netip"

	"github.com/margay-project/margay/api"
)

// Packet is the fields of a connection's first packet that rules can match. Addresses are IPv4 or IPv6, never mapped.
type Packet struct {
	Source, Destination netip.Addr
	Protocol            uint8
	SourcePort          uint16 // of protocols with ports: TCP, UDP, SCTP and UDPLite
	DestinationPort     uint16
	ICMPType, ICMPCode  uint8 // ICMP and ICMPv6
}

// Verdict says what happens to a packet at one stage, and which rule decided it.
type Verdict struct {
	Action api.Action // Allow or Deny; empty if the stage decided nothing
	Rule   RuleID     // the rule that decided; zero if none did
	Passed []RuleID   // the rules with Pass and the ends of tiers with default action Pass that passed the packet on before that, in order
}

// String is the rule as people read it: TIER/POLICY/INDEX, end of tier TIER, profile NAME/INDEX, end of profiles.
func (r RuleID) String() string {
	switch r.Policy.Kind {
	case api.KindTier:
		return "end of tier " + r.Policy.Name
	case KindEnd:
		return "end of profiles"
	case api.KindProfile:
		return fmt.Sprintf("profile %s/%d", r.Policy.Name, r.Index)
	case KindFailsafe:
		return fmt.Sprintf("failsafe %s/%d", r.Policy.Name, r.Index)
	case "":
		return ""
	}
	name := r.Policy.Name
	if r.Policy.Namespace != "" {
		name = r.Policy.Namespace + ":" + name
	}
	return fmt.Sprintf("%s/%s/%d", r.Tier, name, r.Index)
}

// Hash is the rule's number in the kernel: the same on every node and after every restart. It depends on the
// policy, the direction and the index, not on the tier.
func (r RuleID) Hash() uint64 {
	return hash(r.Policy.Kind, r.Policy.Namespace, r.Policy.Name, r.Direction.String(), fmt.Sprint(r.Index))
}

// Hash is the endpoint's number in the kernel.
func (e EndpointID) Hash() uint64 { return hash(e.Kind, e.Namespace, e.Name) }

// hash never returns 0, which the kernel's tables use for "none". No name contains a NUL.
func hash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return max(h.Sum64(), 1)
}

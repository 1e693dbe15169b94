package bpf

import "fmt"

// Reason says why a packet passed or not, or what happened beside.
type Reason uint32

// The reasons, as in enum reason of layout.h.
const (
	ReasonNone             = Reason(programReasonREASON_NONE)
	PassFlow               = Reason(programReasonREASON_PASS_FLOW)
	PassPolicy             = Reason(programReasonREASON_PASS_POLICY)
	PassNoPolicy           = Reason(programReasonREASON_PASS_NO_POLICY)
	PassEndOfForward       = Reason(programReasonREASON_PASS_END_OF_FORWARD)
	PassUntracked          = Reason(programReasonREASON_PASS_UNTRACKED)
	PassRelated            = Reason(programReasonREASON_PASS_RELATED)
	PassNeighbour          = Reason(programReasonREASON_PASS_NEIGHBOUR)
	PassNotIP              = Reason(programReasonREASON_PASS_NOT_IP)
	PassFromHost           = Reason(programReasonREASON_PASS_FROM_HOST)
	PassUnparsed           = Reason(programReasonREASON_PASS_UNPARSED)
	DropPolicy             = Reason(programReasonREASON_DROP_POLICY)
	DropEndOfPolicy        = Reason(programReasonREASON_DROP_END_OF_POLICY)
	DropRevoked            = Reason(programReasonREASON_DROP_REVOKED)
	DropContinuations      = Reason(programReasonREASON_DROP_CONTINUATIONS)
	DropNoPolicy           = Reason(programReasonREASON_DROP_NO_POLICY)
	DropNoInterface        = Reason(programReasonREASON_DROP_NO_INTERFACE)
	DropClosed             = Reason(programReasonREASON_DROP_CLOSED)
	DropToHost             = Reason(programReasonREASON_DROP_TO_HOST)
	DropSource             = Reason(programReasonREASON_DROP_SOURCE)
	DropMAC                = Reason(programReasonREASON_DROP_MAC)
	DropTagged             = Reason(programReasonREASON_DROP_TAGGED)
	DropNotIP              = Reason(programReasonREASON_DROP_NOT_IP)
	DropARP                = Reason(programReasonREASON_DROP_ARP)
	DropNeighbour          = Reason(programReasonREASON_DROP_NEIGHBOUR)
	DropRouter             = Reason(programReasonREASON_DROP_ROUTER)
	DropTunnel             = Reason(programReasonREASON_DROP_TUNNEL)
	DropMalformed          = Reason(programReasonREASON_DROP_MALFORMED)
	DropHeaderChain        = Reason(programReasonREASON_DROP_HEADER_CHAIN)
	DropMapped             = Reason(programReasonREASON_DROP_MAPPED)
	DropFragment           = Reason(programReasonREASON_DROP_FRAGMENT)
	DropTinyFragment       = Reason(programReasonREASON_DROP_TINY_FRAGMENT)
	DropDHCP               = Reason(programReasonREASON_DROP_DHCP)
	DropLinkLocal          = Reason(programReasonREASON_DROP_LINK_LOCAL)
	NoteFlowsFull          = Reason(programReasonREASON_NOTE_FLOWS_FULL)
	NoteShareFull          = Reason(programReasonREASON_NOTE_SHARE_FULL)
	NoteFlowNotStored      = Reason(programReasonREASON_NOTE_FLOW_NOT_STORED)
	NoteEventLost          = Reason(programReasonREASON_NOTE_EVENT_LOST)
	NoteEventLeftOut       = Reason(programReasonREASON_NOTE_EVENT_LEFT_OUT)
	Reasons                = int(programReasonREASONS)
	firstDrop, firstBeside = DropPolicy, NoteFlowsFull
)

// Drops tells that a packet with this reason was dropped.
func (r Reason) Drops() bool { return r >= firstDrop && r < firstBeside }

func (r Reason) String() string {
	if text := reasonText(r); text != "" {
		return text
	}
	return fmt.Sprintf("reason %d", uint32(r))
}

func reasonText(r Reason) string {
	if int(r) >= Reasons {
		return ""
	}
	return [Reasons]string{

		ReasonNone:        "none",
		PassFlow:          "part of an allowed connection",
		PassPolicy:        "allowed by policy",
		PassNoPolicy:      "no policy at this stage",
		PassEndOfForward:  "no forward policy decided",
		PassUntracked:     "allowed by untracked policy",
		PassRelated:       "error about an allowed connection",
		PassNeighbour:     "neighbour discovery",
		PassNotIP:         "not IP",
		PassFromHost:      "from this host",
		PassUnparsed:      "unreadable, no policy applies",
		DropPolicy:        "denied by policy",
		DropEndOfPolicy:   "no policy allows it",
		DropRevoked:       "connection no longer allowed",
		DropContinuations: "too many pass and log rules",
		DropNoPolicy:      "endpoint has no policy loaded",
		DropNoInterface:   "unknown interface",
		DropClosed:        "endpoint is closed",
		DropToHost:        "workload to its own host",
		DropSource:        "source is not the workload's",
		DropMAC:           "MAC is not the workload's",
		DropTagged:        "VLAN tag from a workload",
		DropNotIP:         "not IP, from or to a workload",
		DropARP:           "ARP for another's address",
		DropNeighbour:     "neighbour or listener message that is forged or not of the link",
		DropRouter:        "router advertisement or redirect from a workload",
		DropTunnel:        "tunnel from a workload",
		DropMalformed:     "malformed",
		DropHeaderChain:   "too many extension headers",
		DropMapped:        "IPv4-mapped address in IPv6",
		DropFragment:      "fragment without its first",
		DropTinyFragment:  "tiny first fragment",
		DropDHCP:          "DHCP from a workload: its address comes from its endpoint",
		DropLinkLocal:     "link-local source, but no message of the link",
		NoteFlowsFull:     "table of connections is full",
		NoteShareFull:     "endpoint has its share of connections",
		NoteFlowNotStored: "connection could not be stored",
		NoteEventLost:     "event lost: nobody reads them fast enough",
		NoteEventLeftOut:  "event left out: too many a second",
	}[r]
}

package bpf

import (
	"fmt"

	"github.com/margay-project/margay/bpf/layout"
)

// Reason says why a packet passed or was dropped, or notes something that happened to it.
type Reason uint32

// The reasons, as in enum reason of layout.h.
const (
	ReasonNone             = Reason(layout.ReasonNone)
	PassFlow               = Reason(layout.ReasonPassFlow)
	PassPolicy             = Reason(layout.ReasonPassPolicy)
	PassNoPolicy           = Reason(layout.ReasonPassNoPolicy)
	PassEndOfForward       = Reason(layout.ReasonPassEndOfForward)
	PassUntracked          = Reason(layout.ReasonPassUntracked)
	PassRelated            = Reason(layout.ReasonPassRelated)
	PassNeighbour          = Reason(layout.ReasonPassNeighbour)
	PassNotIP              = Reason(layout.ReasonPassNotIP)
	PassFromHost           = Reason(layout.ReasonPassFromHost)
	PassUnparsed           = Reason(layout.ReasonPassUnparsed)
	PassDHCP               = Reason(layout.ReasonPassDHCP)
	PassToAgent            = Reason(layout.ReasonPassToAgent)
	DropPolicy             = Reason(layout.ReasonDropPolicy)
	DropEndOfPolicy        = Reason(layout.ReasonDropEndOfPolicy)
	DropRevoked            = Reason(layout.ReasonDropRevoked)
	DropContinuations      = Reason(layout.ReasonDropContinuations)
	DropNoPolicy           = Reason(layout.ReasonDropNoPolicy)
	DropNoInterface        = Reason(layout.ReasonDropNoInterface)
	DropClosed             = Reason(layout.ReasonDropClosed)
	DropToHost             = Reason(layout.ReasonDropToHost)
	DropSource             = Reason(layout.ReasonDropSource)
	DropMAC                = Reason(layout.ReasonDropMAC)
	DropTagged             = Reason(layout.ReasonDropTagged)
	DropNotIP              = Reason(layout.ReasonDropNotIP)
	DropARP                = Reason(layout.ReasonDropARP)
	DropNeighbour          = Reason(layout.ReasonDropNeighbour)
	DropRouter             = Reason(layout.ReasonDropRouter)
	DropTunnel             = Reason(layout.ReasonDropTunnel)
	DropMalformed          = Reason(layout.ReasonDropMalformed)
	DropHeaderChain        = Reason(layout.ReasonDropHeaderChain)
	DropMapped             = Reason(layout.ReasonDropMapped)
	DropFragment           = Reason(layout.ReasonDropFragment)
	DropTinyFragment       = Reason(layout.ReasonDropTinyFragment)
	DropDHCP               = Reason(layout.ReasonDropDHCP)
	DropLinkLocal          = Reason(layout.ReasonDropLinkLocal)
	DropDHCPServer         = Reason(layout.ReasonDropDHCPServer)
	DropLinkControl        = Reason(layout.ReasonDropLinkControl)
	DropFlooded            = Reason(layout.ReasonDropFlooded)
	DropQuestion           = Reason(layout.ReasonDropQuestion)
	NoteFlowsFull          = Reason(layout.ReasonNoteFlowsFull)
	NoteShareFull          = Reason(layout.ReasonNoteShareFull)
	NoteFlowNotStored      = Reason(layout.ReasonNoteFlowNotStored)
	NoteEventLost          = Reason(layout.ReasonNoteEventLost)
	NoteEventLeftOut       = Reason(layout.ReasonNoteEventLeftOut)
	Reasons                = int(layout.Reasons)
	firstDrop, firstBeside = DropPolicy, NoteFlowsFull
)

// Drops says whether packets with this reason are dropped.
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
		PassDHCP:          "DHCP of a bridged workload",
		PassToAgent:       "DHCP or router solicitation: felix answers it",
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
		DropDHCPServer:    "DHCP server on a workload",
		DropLinkControl:   "link control (STP, LLDP) from a workload",
		DropFlooded:       "flooded by the bridge, for another station",
		DropQuestion:      "DHCP or router solicitation: more than 20 a second, or felix reads none",
		NoteFlowsFull:     "table of connections is full",
		NoteShareFull:     "endpoint has its share of connections",
		NoteFlowNotStored: "connection could not be stored",
		NoteEventLost:     "event lost: nobody reads them fast enough",
		NoteEventLeftOut:  "event left out: too many a second",
	}[r]
}

// Code generated from layout.h by bpf/layout/generate; DO NOT EDIT.

package layout

import "structs"

// Numbers that layout.h defines.
const (
	BlockWords         = 64
	MaxBlocks          = 32
	PagePoints         = 256
	OpeningWindowShift = 32
	OpenerKept         = 14
	QuestionBytes      = 1600
	MaxContinuations   = 32
)

// Values of enum dimension.
const (
	DimSource     = 0
	DimDest       = 1
	DimService    = 2
	DimSourcePort = 3
	Dims          = 4
)

// Values of enum action.
const (
	ActionAllow = 1
	ActionDeny  = 2
	ActionPass  = 3
	ActionLog   = 4
)

// Values of enum service_base.
const (
	ServiceTCP     = 0
	ServiceUDP     = 65536
	ServiceSCTP    = 131072
	ServiceUDPLite = 196608
	ServiceICMP    = 262144
	ServiceICMPv6  = 327680
	ServiceOther   = 393216
	Services       = 393472
	SourcePortNone = 262144
	SourcePorts    = 262145
)

// Values of enum stage.
const (
	StageNormalIn     = 0
	StageNormalOut    = 1
	StageForwardIn    = 2
	StageForwardOut   = 3
	StagePreDNATIn    = 4
	StageUntrackedIn  = 5
	StageUntrackedOut = 6
	Stages            = 7
)

// Values of enum iface_flag.
const (
	IfaceWorkload   = 1
	IfaceCheckMAC   = 2
	IfaceAllowVXLAN = 4
	IfaceAllowIPIP  = 8
	IfaceToHost     = 16
	IfaceClosed     = 32
	IfaceLayer3     = 64
	IfaceBridged    = 128
	IfaceAllowNotIP = 256
	IfaceAllowTags  = 512
	IfaceAskAgent   = 1024
	IfaceSourceNets = 2048
)

// Values of enum local.
const (
	LocalHost    = 1
	LocalPeering = 2
)

// Values of enum packet_flag.
const (
	PacketIPv6          = 1
	PacketFirstFragment = 2
	PacketLaterFragment = 4
	PacketICMPError     = 8
	PacketTagged        = 16
	PacketTraced        = 32
	PacketAnswer        = 64
	PacketGroup         = 128
)

// Values of enum flow_asker.
const (
	AskerLow    = 1
	AskerHigh   = 2
	AskerAtPort = 128
)

// Values of enum flow_state.
const (
	FlowTCPOpening     = 0
	FlowTCPEstablished = 1
	FlowTCPFins        = 2
	FlowTCPReset       = 3
	FlowUDP            = 4
	FlowICMP           = 5
	FlowGeneric        = 6
	FlowStates         = 7
)

// Values of enum flow_flag.
const (
	FlowLowOpened    = 1
	FlowAnswered     = 2
	FlowProven       = 4
	FlowOpenerFin    = 8
	FlowReplierFin   = 16
	FlowReplierReset = 32
)

// Values of enum leg_way.
const (
	LegNone        = 0
	LegFromOpener  = 1
	LegFromReplier = 2
)

// Values of enum leg_epoch.
const (
	LegRevokedBit = 63
)

// Values of enum leg_side.
const (
	LegOpener  = 0
	LegReplier = 1
	Legs       = 2
)

// Values of enum crowding.
const (
	CrowdNone  = 0
	CrowdAging = 1
	Crowded    = 2
)

// Values of enum flow_tables.
const (
	FlowTablesOne   = 0
	FlowTablesSwap  = 1
	FlowTablesDrain = 2
)

// Values of enum log_level.
const (
	LogRules    = 0
	LogDrops    = 1
	LogVerdicts = 2
)

// Values of enum reason.
const (
	ReasonNone              = 0
	ReasonPassFlow          = 1
	ReasonPassPolicy        = 2
	ReasonPassNoPolicy      = 3
	ReasonPassEndOfForward  = 4
	ReasonPassUntracked     = 5
	ReasonPassRelated       = 6
	ReasonPassNeighbour     = 7
	ReasonPassNotIP         = 8
	ReasonPassFromHost      = 9
	ReasonPassUnparsed      = 10
	ReasonPassDHCP          = 11
	ReasonPassToAgent       = 12
	ReasonDropPolicy        = 13
	ReasonDropEndOfPolicy   = 14
	ReasonDropRevoked       = 15
	ReasonDropContinuations = 16
	ReasonDropNoPolicy      = 17
	ReasonDropNoInterface   = 18
	ReasonDropClosed        = 19
	ReasonDropToHost        = 20
	ReasonDropSource        = 21
	ReasonDropMAC           = 22
	ReasonDropTagged        = 23
	ReasonDropNotIP         = 24
	ReasonDropARP           = 25
	ReasonDropNeighbour     = 26
	ReasonDropRouter        = 27
	ReasonDropTunnel        = 28
	ReasonDropMalformed     = 29
	ReasonDropHeaderChain   = 30
	ReasonDropMapped        = 31
	ReasonDropFragment      = 32
	ReasonDropTinyFragment  = 33
	ReasonDropDHCP          = 34
	ReasonDropLinkLocal     = 35
	ReasonDropDHCPServer    = 36
	ReasonDropLinkControl   = 37
	ReasonDropFlooded       = 38
	ReasonDropQuestion      = 39
	ReasonNoteFlowsFull     = 40
	ReasonNoteShareFull     = 41
	ReasonNoteFlowNotStored = 42
	ReasonNoteEventLost     = 43
	ReasonNoteEventLeftOut  = 44
	Reasons                 = 45
)

// Values of enum event_kind.
const (
	EventDrop  = 0
	EventAllow = 1
	EventLog   = 2
)

// Values of enum judgement.
const (
	JudgeUndecided = 0
	JudgeAllow     = 1
	JudgeDeny      = 2
)

// Slot is struct slot.
type Slot struct {
	_      structs.HostLayout
	Rule   uint64
	Next   uint32
	Action uint8
	Unused [3]uint8
}

// Vector is struct vector.
type Vector struct {
	_           structs.HostLayout
	Summary     uint64
	Chunk       uint32
	SourcePorts uint32
}

// ChunkWord is struct chunk_word.
type ChunkWord struct {
	_    structs.HostLayout
	Pos  uint64
	Veto uint64
}

// Chunk is struct chunk.
type Chunk struct {
	_     structs.HostLayout
	Words [64]ChunkWord
}

// Wild is struct wild.
type Wild struct {
	_       structs.HostLayout
	Summary [4]uint64
	Words   [64][4]uint64
}

// AddressClass is struct address_class.
type AddressClass struct {
	_      structs.HostLayout
	Addr   [16]uint8
	Source uint32
	Dest   uint32
}

// NetKey is struct net_key.
type NetKey struct {
	_         structs.HostLayout
	Prefixlen uint32
	Addr      [16]uint8
}

// PointPage is struct point_page.
type PointPage struct {
	_      structs.HostLayout
	Vector [256]uint32
}

// Iface is struct iface.
type Iface struct {
	_           structs.HostLayout
	Endpoint    uint64
	Ifindex     uint32
	Flags       uint32
	Mask        [7]uint32
	Mac         [6]uint8
	PeeringPort uint16
	Unused      [4]uint8
}

// SourceKey is struct source_key.
type SourceKey struct {
	_       structs.HostLayout
	Ifindex uint32
	Addr    [16]uint8
}

// SourceNetKey is struct source_net_key.
type SourceNetKey struct {
	_         structs.HostLayout
	Prefixlen uint32
	Ifindex   uint32
	Addr      [16]uint8
}

// Packet is struct packet.
type Packet struct {
	_           structs.HostLayout
	Src         [16]uint8
	Dst         [16]uint8
	Sport       uint16
	Dport       uint16
	Proto       uint8
	Flags       uint8
	IcmpType    uint8
	IcmpCode    uint8
	Seq         uint32
	Ack         uint32
	Length      uint32
	Segments    uint16
	TcpFlags    uint8
	HopLimit    uint8
	Fragment    uint32
	L4          uint16
	FirstHeader uint8
	Unused      uint8
}

// FlowKey is struct flow_key.
type FlowKey struct {
	_        structs.HostLayout
	Low      [16]uint8
	High     [16]uint8
	LowPort  uint16
	HighPort uint16
	Proto    uint8
	Kind     uint8
	Asker    uint8
	Unused   uint8
}

// Leg is struct leg.
type Leg struct {
	_        structs.HostLayout
	Endpoint uint64
	Epoch    uint64
	Rule     uint64
	Ifindex  uint32
	Stage    uint8
	Way      uint8
	ToHost   uint8
	Unused   uint8
	Packets  [2]uint64
	Bytes    [2]uint64
}

// Flow is struct flow.
type Flow struct {
	_       structs.HostLayout
	Seen    uint64
	Created uint64
	Tag     uint64
	Owner   uint64
	Answer  uint32
	State   uint8
	Flags   uint8
	Refused uint8
	Unused  uint8
	Legs    [2]Leg
}

// Share is struct share.
type Share struct {
	_       structs.HostLayout
	Used    uint32
	Counted uint32
}

// Opening is struct opening.
type Opening struct {
	_      structs.HostLayout
	Window uint32
	Count  uint32
}

// Settings is struct settings.
type Settings struct {
	_            structs.HostLayout
	Timeout      [7]uint64
	Mark         uint32
	LogLevel     uint32
	Revoke       uint32
	Set          uint32
	Draining     uint32
	Share        uint32
	OpeningShare uint32
	Crowding     uint32
	HostMark     uint32
	ToHostMark   uint32
	EventGap     uint64
}

// SweepResult is struct sweep_result.
type SweepResult struct {
	_        structs.HostLayout
	Now      uint64
	Removed  uint64
	Proven   uint64
	Unproven uint64
	Crowd    uint64
	Openers  uint64
}

// DrainResult is struct drain_result.
type DrainResult struct {
	_     structs.HostLayout
	Now   uint64
	Moved uint64
	Left  uint64
}

// FragmentKey is struct fragment_key.
type FragmentKey struct {
	_       structs.HostLayout
	Src     [16]uint8
	Dst     [16]uint8
	Id      uint32
	Ifindex uint32
	Proto   uint32
	Egress  uint32
}

// Fragment is struct fragment.
type Fragment struct {
	_        structs.HostLayout
	Sport    uint16
	Dport    uint16
	Proto    uint8
	IcmpType uint8
	IcmpCode uint8
	Flags    uint8
}

// Hits is struct hits.
type Hits struct {
	_       structs.HostLayout
	Packets uint64
	Bytes   uint64
}

// Event is struct event.
type Event struct {
	_        structs.HostLayout
	Time     uint64
	Rule     uint64
	Endpoint uint64
	Packet   Packet
	Ifindex  uint32
	Kind     uint8
	Reason   uint8
	Stage    uint8
	Egress   uint8
}

// Question is struct question.
type Question struct {
	_       structs.HostLayout
	Ifindex uint32
	Length  uint32
	Frame   [1600]uint8
}

// Judged is struct judged.
type Judged struct {
	_      structs.HostLayout
	Rule   uint64
	Reason uint32
	Stage  uint32
}

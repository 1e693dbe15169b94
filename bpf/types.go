package bpf

// The layouts of layout.h under the names that the rest of the project uses.
type (
	Slot         = programSlot
	Vector       = programVector
	ChunkWord    = programChunkWord
	Chunk        = programChunk
	Wild         = programWild
	AddressClass = programAddressClass
	NetKey       = programNetKey
	PointPage    = programPointPage
	Iface        = programIface
	SourceKey    = programSourceKey
)

// Dimensions of the classifier.
const (
	DimSource     = int(programDimensionDIM_SOURCE)
	DimDest       = int(programDimensionDIM_DEST)
	DimService    = int(programDimensionDIM_SERVICE)
	DimSourcePort = int(programDimensionDIM_SOURCE_PORT)
	Dims          = int(programDimensionDIMS)
)

// Shape of a vector.
const (
	BlockWords = len(programChunk{}.Words)
	BlockSlots = BlockWords * 64
	MaxBlocks  = 32
)

// The actions of a slot on a packet that it is the first to match.
const (
	ActionAllow = uint8(programActionACTION_ALLOW)
	ActionDeny  = uint8(programActionACTION_DENY)
	ActionPass  = uint8(programActionACTION_PASS)
	ActionLog   = uint8(programActionACTION_LOG)
)

// Points of the service and source port lines, see enum service_base in layout.h.
const (
	ServiceTCP     = uint32(programServiceBaseSERVICE_TCP)
	ServiceUDP     = uint32(programServiceBaseSERVICE_UDP)
	ServiceSCTP    = uint32(programServiceBaseSERVICE_SCTP)
	ServiceUDPLite = uint32(programServiceBaseSERVICE_UDPLITE)
	ServiceICMP    = uint32(programServiceBaseSERVICE_ICMP)
	ServiceICMPv6  = uint32(programServiceBaseSERVICE_ICMPV6)
	ServiceOther   = uint32(programServiceBaseSERVICE_OTHER)
	Services       = uint32(programServiceBaseSERVICES)
	SourcePortNone = uint32(programServiceBaseSOURCE_PORT_NONE)
	SourcePorts    = uint32(programServiceBaseSOURCE_PORTS)
	PagePoints     = uint32(len(programPointPage{}.Vector))
)

// Stages of judgement at an interface, indexes of Iface.Mask.
const (
	StageNormalIn     = int(programStageSTAGE_NORMAL_IN)
	StageNormalOut    = int(programStageSTAGE_NORMAL_OUT)
	StageForwardIn    = int(programStageSTAGE_FORWARD_IN)
	StageForwardOut   = int(programStageSTAGE_FORWARD_OUT)
	StagePreDNATIn    = int(programStageSTAGE_PREDNAT_IN)
	StageUntrackedIn  = int(programStageSTAGE_UNTRACKED_IN)
	StageUntrackedOut = int(programStageSTAGE_UNTRACKED_OUT)
	Stages            = int(programStageSTAGES)
)

// Flags of an interface.
const (
	IfaceWorkload   = uint32(programIfaceFlagIFACE_WORKLOAD)
	IfaceCheckMAC   = uint32(programIfaceFlagIFACE_CHECK_MAC)
	IfaceAllowVXLAN = uint32(programIfaceFlagIFACE_ALLOW_VXLAN)
	IfaceAllowIPIP  = uint32(programIfaceFlagIFACE_ALLOW_IPIP)
	IfaceToHost     = uint32(programIfaceFlagIFACE_TO_HOST)
	IfaceClosed     = uint32(programIfaceFlagIFACE_CLOSED)
)

// Layouts of packets, connections, events and settings.
type (
	Packet   = programPacket
	FlowKey  = programFlowKey
	Flow     = programFlow
	Leg      = programLeg
	Settings = programSettings
	Hits     = programHits
	Judged   = programJudged
)

// IfaceLayer3 says that packets of the interface have no Ethernet header.
const IfaceLayer3 = uint32(programIfaceFlagIFACE_LAYER3)

// StageBornHere is the stage of packets of this host to its own workload: always allowed.
const StageBornHere = Stages

// MaxContinuations bounds how many Pass and Log slots one search may go through; a packet beyond it is dropped.
const MaxContinuations = 32

// States of a connection, indexes of Settings.Timeout.
const (
	FlowTCPOpening     = int(programFlowStateFLOW_TCP_OPENING)
	FlowTCPEstablished = int(programFlowStateFLOW_TCP_ESTABLISHED)
	FlowTCPFins        = int(programFlowStateFLOW_TCP_FINS)
	FlowTCPReset       = int(programFlowStateFLOW_TCP_RESET)
	FlowUDP            = int(programFlowStateFLOW_UDP)
	FlowICMP           = int(programFlowStateFLOW_ICMP)
	FlowGeneric        = int(programFlowStateFLOW_GENERIC)
	FlowStates         = int(programFlowStateFLOW_STATES)
)

// Values of Settings.LogLevel: what is written to the event buffer.
const (
	LogRules    = uint32(programLogLevelLOG_RULES)    // Log rules only
	LogDrops    = uint32(programLogLevelLOG_DROPS)    // and each packet dropped
	LogVerdicts = uint32(programLogLevelLOG_VERDICTS) // and each flow allowed
)

package calc

import (
	"net/netip"
	"time"

	"github.com/margay-project/margay/api"
)

// State is what one node must do. It is a plain value; whoever receives it must not change it.
type State struct {
	Tiers     map[string]Tier     // those with an active policy
	Policies  map[PolicyID]Policy // those that select a local endpoint, the profiles of local endpoints, failsafes
	Sets      map[SetID]Members   // those that an active policy names
	Endpoints map[EndpointID]Endpoint
	Routes    map[netip.Prefix]Route
	Pools     map[netip.Prefix]Pool
	BGP       BGP
	Config    Config
	Problems  map[Problem]struct{} // what was accepted but cannot be done as written
	Ready     bool                 // false: the datastore asks agents to leave everything as it is
}

// Delta is what changed between two States: each map holds the new values, each slice the keys that are gone.
// The zero Delta changes nothing.
type Delta struct {
	Tiers         map[string]Tier
	TiersGone     []string
	Policies      map[PolicyID]Policy
	PoliciesGone  []PolicyID
	Sets          map[SetID]SetDelta // a set that was not there before starts empty
	SetsGone      []SetID
	Endpoints     map[EndpointID]Endpoint
	EndpointsGone []EndpointID
	Routes        map[netip.Prefix]Route
	RoutesGone    []netip.Prefix
	Pools         map[netip.Prefix]Pool
	PoolsGone     []netip.Prefix
	BGP           *BGP // whole, when anything in it changed
	Config        *Config
	Problems      []Problem
	ProblemsGone  []Problem
	Ready         *bool
}

// SetDelta lists the members that join and leave a set.
type SetDelta struct {
	Added, Removed []netip.Prefix
}

// Members are the addresses and networks of a set. An IPv4 prefix is IPv4 here, never mapped; none has host bits.
type Members map[netip.Prefix]struct{}

// PolicyID names a list of rules: a policy, a profile, or one that calc makes itself (KindFailsafe).
type PolicyID struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// Kinds of PolicyID that no object in the datastore has. A RuleID may also name the default action of a tier: its kind is
// api.KindTier.
const (
	KindFailsafe = "Failsafe"     // failsafe ports, and the agent's own sessions
	KindEnd      = "EndOfProfile" // RuleID only: no profile decided
)

// SetID is a set's canonical selector; for a named port, with the name and what it stands for.
type SetID string

// EndpointID names an endpoint.
type EndpointID struct {
	Kind      string `json:"kind"` // WorkloadEndpoint or HostEndpoint
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// Direction of a rule list, seen from the endpoint.
type Direction uint8

const (
	Ingress Direction = iota // towards the endpoint
	Egress
)

func (d Direction) String() string {
	return [...]string{"ingress", "egress"}[d]
}

// MaxContinuations is how often a packet may be passed on or logged at one stage: the search in the kernel is bounded. An
// endpoint whose policies might do it more often is closed.
const MaxContinuations = 32

// MaxSlots is how many rules the classifier has room for, each of their combinations of port names counted. An endpoint whose
// policies alone have more is closed.
const MaxSlots = 131072

// Stage of judgement. Workloads have only Normal.
type Stage uint8

const (
	Normal Stage = iota
	Forward
	PreDNAT
	Untracked
	Stages
)

func (s Stage) String() string {
	return [...]string{"normal", "forward", "preDNAT", "untracked"}[s]
}

// RuleID names one rule: it is what a verdict reports. Index is -1 for the default of a tier and the end of profiles.
type RuleID struct {
	Policy    PolicyID
	Tier      string // empty for profiles and failsafes
	Direction Direction
	Index     int
}

// Tier is a tier's place in the order and what happens at its end.
type Tier struct {
	Name    string     `json:"name"`
	Order   Order      `json:"order"`
	Missing bool       `json:"missing,omitempty"` // policies name it but it does not exist: it comes last and denies
	Default api.Action `json:"defaultAction"`
}

// Order is a tier's or policy's order; unset is after every number.
type Order struct {
	Value float64
	Set   bool
}

// Policy is an active policy's or profile's rules, parsed.
type Policy struct {
	ID      PolicyID `json:"id"`
	Tier    string   `json:"tier,omitempty"` // empty for profiles and failsafes
	Order   Order    `json:"order"`
	Ingress []Rule   `json:"ingress,omitempty"`
	Egress  []Rule   `json:"egress,omitempty"`
}

// Rule is one rule with all its criteria resolved: they are ANDed, and one that is not given matches everything.
//
// Never says that the rule cannot match at all (a criterion that is not enforced yet, in an Allow; no family left);
// it keeps its place so that indexes stay those of the manifest.
type Rule struct {
	Action      api.Action `json:"action"`
	Never       bool       `json:"never,omitempty"`
	V4, V6      bool       `json:"-"`                     // the families the rule is about; at least one unless Never
	Protocol    uint8      `json:"protocol,omitempty"`    // 0: any
	NotProtocol uint8      `json:"notProtocol,omitempty"` // 0: none
	ICMP        *ICMP      `json:"icmp,omitempty"`
	NotICMP     *ICMP      `json:"notICMP,omitempty"`
	Source      Match      `json:"source,omitzero"`
	Destination Match      `json:"destination,omitzero"`
}

// ICMP is a type and a code, -1 for any.
type ICMP struct {
	Type int16 `json:"type"`
	Code int16 `json:"code"`
}

// Match is one side of a rule.
type Match struct {
	Nets     []netip.Prefix `json:"nets,omitempty"`     // one of them contains the address; empty: any address
	NotNets  []netip.Prefix `json:"notNets,omitempty"`  // none of them contains it
	Set      SetID          `json:"set,omitempty"`      // the address is in it; empty: any address
	NotSet   SetID          `json:"notSet,omitempty"`   // the address is not in it; empty: no such condition
	Ports    []PortRange    `json:"ports,omitempty"`    // one of them contains the port (protocols with ports only); empty: any
	NotPorts []PortRange    `json:"notPorts,omitempty"` // none of them contains it; packets without ports pass

	// Names of ports are one criterion with Ports, or NotPorts: one of both must be the port's, or none of either; nil: none
	// are given.
	Names    *PortNames `json:"portNames,omitempty"`
	NotNames *PortNames `json:"notPortNames,omitempty"`
}

// PortRange is inclusive at both ends.
type PortRange struct{ First, Last uint16 }

// Endpoint is a local endpoint and the policies that judge its traffic.
type Endpoint struct {
	ID        EndpointID   `json:"id"`
	Interface string       `json:"interface,omitempty"` // workload: its interface, empty when it is another's; host: a name, * or empty (then ExpectedIPs tell)
	Addresses []netip.Addr `json:"addresses,omitempty"` // workload: its own; host: expectedIPs
	MAC       string       `json:"mac,omitempty"`       // lower-case, empty when not given
	Profiles  []string     `json:"profiles,omitempty"`  // in the endpoint's order
	Closed    string       `json:"closed,omitempty"`    // not empty: why everything is dropped, but for a host endpoint's failsafes

	// For each stage and direction the policies by tier, in order; nil when no policy of the stage applies.
	// At the normal stage profiles follow, then the end denies.
	Policies [Stages][2][]TierPolicies `json:"-"`
}

// TierPolicies are the policies of one tier that apply to an endpoint at one stage and direction, in order.
type TierPolicies struct {
	Tier     string     `json:"tier"`
	Policies []PolicyID `json:"policies"`
}

// RouteKind says why a route is there.
type RouteKind uint8

const (
	LocalWorkload RouteKind = iota // an address behind a local interface
	BlockHole                      // the node's own block: what no workload holds goes nowhere
)

// Route is a route of this node's kernel.
type Route struct {
	Kind      RouteKind `json:"kind"`
	Interface string    `json:"interface,omitempty"` // LocalWorkload
}

// Pool is an address pool. One that is disabled gives out no addresses and is not announced; those that it gave out
// before stay, so it still counts for NAT.
type Pool struct {
	CIDR        netip.Prefix `json:"cidr"`
	BlockSize   int          `json:"blockSize"`
	NATOutgoing bool         `json:"natOutgoing,omitempty"`
	Encap       string       `json:"encap,omitempty"` // empty, VXLAN or IPIP
	NoExport    bool         `json:"noExport,omitempty"`
	Disabled    bool         `json:"disabled,omitempty"`
}

// BGP is what this node's speaker must be and say.
type BGP struct {
	AS         uint32
	RouterID   netip.Addr
	ListenPort uint16
	V4, V6     netip.Prefix    // the node's addresses; invalid when it has none
	Peers      map[string]Peer // by name: kind of peer and address
	Paths      map[netip.Prefix]Path
}

// Peer is one BGP session.
type Peer struct {
	Object      string        `json:"object"` // the BGPPeer's name
	Address     netip.Addr    `json:"address"`
	Port        uint16        `json:"port"`
	AS          uint32        `json:"as"`
	LocalAS     uint32        `json:"localAS,omitempty"` // 0: the node's
	Source      netip.Addr    `json:"source,omitzero"`   // invalid: the kernel chooses
	RestartTime time.Duration `json:"-"`
	Keepalive   time.Duration `json:"-"`                     // 0: default
	TTLSecurity uint8         `json:"ttlSecurity,omitempty"` // 0: off
}

// Path is one announced prefix.
type Path struct {
	Communities []string `json:"communities,omitempty"`
	Reason      string   `json:"reason"` // block, borrowed
}

// Config is what the environment and FelixConfiguration ask of the dataplane. Fields that it leaves
// unset have their defaults; Raw holds every field that was set, by its name in the manifest, for display.
type Config struct {
	Raw                 map[string]string
	Sources             map[string]string // of the fields of Raw: a FelixConfiguration's name, or environment
	InterfacePrefixes   []string          // default cali
	ToHost              bool              // defaultEndpointToHostAction is Accept or Return
	AllowVXLAN          bool
	AllowIPIP           bool
	FlowTableSize       int    // bpfMapSizeConntrack, default 512000
	LogLevel            string // bpfLogLevel: off, info, debug
	ScreenLevel         string // logSeverityScreen, in lower case; empty when it is not set
	Timeouts            Timeouts
	DeviceRouteProtocol int
}

// Timeouts of tracked connections without traffic.
type Timeouts struct {
	TCPSynSent, TCPEstablished, TCPFinsSeen, TCPResetSeen, UDP, Generic, ICMP time.Duration
}

// Problem is something that was accepted but is not in force as written. It names what to do.
type Problem struct {
	Object api.Key `json:"-"`
	Text   string  `json:"text"`
}

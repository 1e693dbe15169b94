package calc

import (
	"net/netip"
	"time"

	"github.com/margay-project/margay/api"
)

// State is everything that one node must enforce, route and announce. It is a plain value. Its receiver may keep it, and must not change
// it; Fold changes a State of the receiver's own.
type State struct {
	Tiers     map[string]Tier         // by name; those with an active policy
	Policies  map[PolicyID]Policy     // the active ones: those that select an endpoint of this node, its endpoints' profiles, failsafes
	Sets      map[SetID]Members       // those that an active policy names; one without members is there, too
	Endpoints map[EndpointID]Endpoint // of this node, without those that are refused
	Routes    map[netip.Prefix]Route  // by destination
	Pools     map[netip.Prefix]Pool   // of the whole fleet, by CIDR
	BGP       BGP
	Config    Config
	Problems  map[Problem]struct{} // objects that are stored but not in force as written
	Ready     bool                 // false: the datastore asks agents to leave everything as it is (ClusterInformation)
}

// Delta is the difference between two States: each map holds the values that are new or different, each Gone slice the keys that are
// no longer there. Fold applies it, Diff makes it from two States. The zero Delta changes nothing.
type Delta struct {
	Tiers         map[string]Tier
	TiersGone     []string
	Policies      map[PolicyID]Policy
	PoliciesGone  []PolicyID
	Sets          map[SetID]SetDelta // a set that was not there before had no members
	SetsGone      []SetID
	Endpoints     map[EndpointID]Endpoint
	EndpointsGone []EndpointID
	Routes        map[netip.Prefix]Route
	RoutesGone    []netip.Prefix
	Pools         map[netip.Prefix]Pool
	PoolsGone     []netip.Prefix
	BGP           *BGP    // nil: nothing in it changed; else all of it
	Config        *Config // nil: nothing in it changed; else all of it
	Problems      []Problem
	ProblemsGone  []Problem
	Ready         *bool // nil: it did not change
}

// SetDelta lists the members that a set gains and loses. No prefix is in both.
type SetDelta struct {
	Added, Removed []netip.Prefix
}

// Members are the addresses and networks of a set. An IPv4 prefix is never written as mapped IPv6, and no prefix has host bits.
type Members map[netip.Prefix]struct{}

// PolicyID names a list of rules: a GlobalNetworkPolicy, a NetworkPolicy, a Profile, or one that calc makes itself (KindFailsafe).
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

// SetID is the canonical text of a set's selector; for a named port also its name, and the protocol and port that it stands for. Two rules
// with the same selector share a set.
type SetID string

// EndpointID names an endpoint by its object's key.
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

// MaxContinuations is how often the rules of one stage and direction may pass on or log a packet; the search in the kernel is bounded
// (MAX_CONTINUATIONS in bpf/layout.h, see docs/decisions/0013-pass-limit.md). An endpoint whose policies may do it more often is closed.
const MaxContinuations = 32

// MaxSlots is how many rules the classifier has room for, where a rule with named ports counts once for each combination of them. An
// endpoint whose policies alone have more is closed.
const MaxSlots = 131072

// Stage says which of an endpoint's policies judge a packet. Workload endpoints have only Normal.
type Stage uint8

const (
	Normal    Stage = iota // traffic of the endpoint itself
	Forward                // traffic that the host forwards through a host endpoint's interface
	PreDNAT                // on the way in, before the destination is translated
	Untracked              // before connections are looked up, and without tracking them
	Stages                 // how many there are
)

func (s Stage) String() string {
	return [...]string{"normal", "forward", "preDNAT", "untracked"}[s]
}

// RuleID names one rule. Verdicts, counters and events report it.
type RuleID struct {
	Policy    PolicyID
	Tier      string // empty for profiles and failsafes
	Direction Direction
	Index     int // in the manifest, from 0; -1 for the default of a tier and the end of profiles
}

// Tier is a tier's position in the order of evaluation, and what happens to a packet at its end.
type Tier struct {
	Name    string     `json:"name"`
	Order   Order      `json:"order"`
	Missing bool       `json:"missing,omitempty"` // policies name it but it does not exist: it comes last and denies
	Default api.Action `json:"defaultAction"`     // Deny or Pass
}

// Order is the order of a tier or policy. An unset one comes after every number.
type Order struct {
	Value float64
	Set   bool
}

// Policy is an active policy or profile with its rules.
type Policy struct {
	ID      PolicyID `json:"id"`
	Tier    string   `json:"tier,omitempty"` // empty for profiles and failsafes
	Order   Order    `json:"order"`
	Ingress []Rule   `json:"ingress,omitempty"`
	Egress  []Rule   `json:"egress,omitempty"`
}

// Rule is one rule with all its criteria resolved. A packet must meet all of them; a criterion that is not given is met by every packet.
//
// Never says that the rule matches no packet: a criterion of an Allow or Pass is not enforced yet, or it is about no family. The rule is
// there nevertheless, so that indexes are those of the manifest.
type Rule struct {
	Action      api.Action `json:"action"`
	Never       bool       `json:"never,omitempty"`
	V4, V6      bool       `json:"-"`                     // the families that the rule is about; at least one unless Never
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

// Match is the criteria of one side of a rule, source or destination.
type Match struct {
	Nets     []netip.Prefix `json:"nets,omitempty"`     // one of them contains the address; empty: any address
	NotNets  []netip.Prefix `json:"notNets,omitempty"`  // none of them contains it
	Set      SetID          `json:"set,omitempty"`      // the address is in it; empty: any address
	NotSet   SetID          `json:"notSet,omitempty"`   // the address is not in it; empty: no such condition
	Ports    []PortRange    `json:"ports,omitempty"`    // one of them contains the port (protocols with ports only); empty: any
	NotPorts []PortRange    `json:"notPorts,omitempty"` // none of them contains it; packets without ports pass

	// Named ports. Names and Ports are one criterion: the packet's port must be in one of the two. So are NotNames and NotPorts: it must be
	// in neither. nil: none are given.
	Names    *PortNames `json:"portNames,omitempty"`
	NotNames *PortNames `json:"notPortNames,omitempty"`
}

// PortRange is inclusive at both ends.
type PortRange struct{ First, Last uint16 }

// Endpoint is an endpoint of this node, and the policies that judge its traffic.
type Endpoint struct {
	ID         EndpointID     `json:"id"`
	Interface  string         `json:"interface,omitempty"`  // workload: its interface, empty if another endpoint has it; host: a name, * for all, or empty (then Addresses decide)
	Addresses  []netip.Addr   `json:"addresses,omitempty"`  // workload: its own; host: expectedIPs
	MAC        string         `json:"mac,omitempty"`        // lower-case, empty when not given
	SourceNets []netip.Prefix `json:"sourceNets,omitempty"` // a workload may send from them besides its addresses; allowSpoofedSourcePrefixes
	Hostname   string         `json:"hostname,omitempty"`   // the name that DHCP gives to a workload; empty: none
	OwnDHCP    bool           `json:"ownDHCP,omitempty"`    // the workload's orchestrator gives it its addresses, so felix answers no DHCP
	Profiles   []string       `json:"profiles,omitempty"`   // in the endpoint's order
	Closed     string         `json:"closed,omitempty"`     // not empty: everything but a host endpoint's failsafes is dropped, for this reason

	// For each stage and direction the policies by tier, in the order of evaluation; nil if no policy of the stage applies. At the stage
	// Normal the profiles follow, and then the end denies.
	Policies [Stages][2][]TierPolicies `json:"-"`
}

// TierPolicies are the policies of one tier that apply to an endpoint at one stage and direction, in order.
type TierPolicies struct {
	Tier     string     `json:"tier"`
	Policies []PolicyID `json:"policies"`
}

// RouteKind says what a route is for.
type RouteKind uint8

const (
	LocalWorkload RouteKind = iota // an address behind a local interface
	BlockHole                      // a block of this node: packets to its addresses that no workload has are dropped
	ViaNode                        // a block of another node, or an address that a workload has there
	ToPeer                         // the address of a BGP peer, by the gateway that its BGPPeer names
)

// IsLocal says whether packets by a route of this kind stay on this host.
func (k RouteKind) IsLocal() bool { return k == LocalWorkload || k == BlockHole }

// Route is a route that this node's kernel must have. Its destination is its key in State.Routes.
type Route struct {
	Kind      RouteKind `json:"kind"`
	Interface string    `json:"interface,omitempty"` // LocalWorkload
	// ViaNode: the other node, and its address in a network of this host. ToPeer: the BGPPeer, and the gateway.
	Node    string     `json:"node,omitempty"`
	Peer    string     `json:"peer,omitempty"`
	Gateway netip.Addr `json:"gateway,omitzero"`
}

// Pool is an address pool. A disabled one gives out no addresses and is not announced. Addresses that it gave out before stay, so it
// still counts for NAT.
type Pool struct {
	CIDR        netip.Prefix `json:"cidr"`
	BlockSize   int          `json:"blockSize"`
	NATOutgoing bool         `json:"natOutgoing,omitempty"`
	Encap       string       `json:"encap,omitempty"` // empty, VXLAN or IPIP
	NoExport    bool         `json:"noExport,omitempty"`
	Disabled    bool         `json:"disabled,omitempty"`
}

// BGP is how this node's BGP speaker must be configured, and what it announces.
type BGP struct {
	AS         uint32
	RouterID   netip.Addr
	ListenPort uint16
	BindNodeIP bool            // listen only on V4 and V6
	ClusterID  netip.Addr      // the node reflects routes with this cluster id (RFC 4456); invalid: it does not
	Transit    []RouteRule     // for routes of peers that the node reflects, and of workloads that peer with it, after the filters; what no rule accepts is not passed on
	V4, V6     netip.Prefix    // the node's addresses with their networks; invalid if it has none
	Metric4    int             // of learned IPv4 routes in the kernel; 0: the default
	Metric6    int             // of learned IPv6 routes in the kernel; 0: the default
	NoPools    bool            // learned routes to addresses of pools stay out of the kernel
	Peers      map[string]Peer // by name: Global_ or Node_, and the address
	Paths      map[netip.Prefix]Path

	// Unreached are the peers, by name, whose route by their gateway the kernel does not have, and why. They may get no session. The
	// calculation cannot know that: the dataplane fills it in.
	Unreached map[string]string `json:"-"`
}

// Peer is one BGP session: with a peer that a BGPPeer names, or with another node of the mesh.
type Peer struct {
	Object      string        `json:"object,omitempty"`    // the BGPPeer's name; empty for the mesh
	Node        string        `json:"node,omitempty"`      // the other node, if the peer is one
	Workload    string        `json:"workload,omitempty"`  // NAMESPACE/NAME of the WorkloadEndpoint of this node, if the peer is one
	Interface   string        `json:"interface,omitempty"` // to the workload; empty for other peers
	Address     netip.Addr    `json:"address"`
	Port        uint16        `json:"port"`
	AS          uint32        `json:"as"`
	LocalAS     uint32        `json:"localAS,omitempty"` // 0: the node's
	Source      netip.Addr    `json:"source,omitzero"`   // invalid: the kernel chooses
	Gateway     netip.Addr    `json:"gateway,omitzero"`  // the peer is reached by it: there is a route ToPeer; invalid: by any way
	RestartTime time.Duration `json:"-"`
	Keepalive   time.Duration `json:"-"`                     // 0: default
	TTLSecurity uint8         `json:"ttlSecurity,omitempty"` // 0: off
	Passive     bool          `json:"passive,omitempty"`     // the other node connects
	Password    Password      `json:"password,omitzero"`
	AllowOwnAS  uint8         `json:"allowOwnAS,omitempty"` // how often the own AS may occur in a path from the peer
	MaxPrefixes uint32        `json:"maxPrefixes"`          // routes of the peer above which the session is closed
	Filters     *RouteFilters `json:"filters,omitempty"`    // nil: the BGPPeer names none
	Client      bool          `json:"client,omitempty"`     // of this node, which reflects routes (RFC 4456)
	NextHop     string        `json:"nextHop,omitempty"`    // of routes that the node passes on: Self or Keep; empty: Keep in the same AS, otherwise Self
}

// Path is a prefix that the node announces. The prefix is its key in BGP.Paths.
type Path struct {
	Communities []string `json:"communities,omitempty"` // as text, for example 64512:7
	Reason      string   `json:"reason"`                // block or borrowed (docs/glossary.md)
	Interface   string   `json:"interface,omitempty"`   // to the workload; empty for a block
}

// Config is the configuration of this node: the environment and the FelixConfigurations, merged. Fields that are not set have their
// defaults.
type Config struct {
	Raw                 map[string]string // every field that is set, by its name in the manifest, for display
	Sources             map[string]string // where each field of Raw is from: a FelixConfiguration's name, or environment
	InterfacePrefixes   []string          // default cali
	ToHost              bool              // defaultEndpointToHostAction is Accept or Return
	AllowVXLAN          bool
	AllowIPIP           bool
	FlowTableSize       int    // connections; bpfMapSizeConntrack, default 512000
	LogLevel            string // bpfLogLevel: off, info, debug
	ScreenLevel         string // logSeverityScreen, in lower case; empty when it is not set
	Timeouts            Timeouts
	DeviceRouteProtocol int  // marks felix's routes in the kernel (rtm_protocol)
	RouteMetric4        int  // of IPv4 routes to workloads of the node; 0: the kernel's default
	RouteMetric6        int  // the same for IPv6
	ClusterRoutes       bool // programClusterRoutes: routes to other nodes follow from their blocks, without BGP
	SourceNets          bool // workloadSourceSpoofing is Any: workloads may send from the networks of their endpoints
	BridgedNotIP        bool // bridgedNonIPTraffic is Allow: workloads on bridges may speak other protocols than IP and ARP
	DHCP                bool // felix answers DHCP and router solicitations of workloads
	Resolvers           Resolvers
}

// Resolvers are the DNS servers that felix gives to workloads.
type Resolvers struct {
	Set       bool // false: those of the host
	Addresses []netip.Addr
}

// Timeouts says after how long without packets a tracked connection ends.
type Timeouts struct {
	TCPSynSent, TCPEstablished, TCPFinsSeen, TCPResetSeen, UDP, Generic, ICMP time.Duration
}

// Problem says why a stored object is not in force as written, what that means, and what to do.
type Problem struct {
	Object api.Key `json:"-"`
	Text   string  `json:"text"`
}

package api

// Tier groups policies. Tiers are evaluated in their order, and in each tier its policies in their order.
type Tier struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     TierSpec   `json:"spec"`
	Status   TierStatus `json:"status"`
}

// TierSpec says when a tier is evaluated, and what happens at its end.
type TierSpec struct {
	Order         *float64 `json:"order,omitempty"`         // tiers with a lower order are evaluated first: 1000000 unless set
	DefaultAction *Action  `json:"defaultAction,omitempty"` // what happens to a packet that a policy of the tier judges and no rule of the tier matches: Deny, or Pass (on to the next tier); Deny unless set
}

// TierStatus is written by controllers.
type TierStatus struct {
	Conditions []Condition `json:"conditions,omitempty"` // state of the tier
}

// GlobalNetworkPolicy is a policy for workload endpoints of every namespace and for host endpoints.
type GlobalNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     GlobalNetworkPolicySpec `json:"spec"`
}

// GlobalNetworkPolicySpec says which endpoints a policy selects, when it is evaluated, and its rules.
type GlobalNetworkPolicySpec struct {
	Tier                   string       `json:"tier,omitempty"`                   // name of the Tier, which must exist when the policy is created: default unless set
	Order                  *float64     `json:"order,omitempty"`                  // policies with a lower order are evaluated first; without an order last
	Ingress                []Rule       `json:"ingress,omitempty"`                // rules for packets to the endpoint, in order
	Egress                 []Rule       `json:"egress,omitempty"`                 // rules for packets from the endpoint, in order
	Selector               string       `json:"selector,omitempty"`               // selects the endpoints that the policy judges; empty: all
	Types                  []PolicyType `json:"types,omitempty"`                  // directions that the policy judges, also without rules: Ingress, Egress. Unless set, the directions that have rules; Ingress if none has
	DoNotTrack             bool         `json:"doNotTrack,omitempty"`             // judges each packet of host endpoints by itself, without connection tracking; needs applyOnForward
	PreDNAT                bool         `json:"preDNAT,omitempty"`                // judges packets to host endpoints before their destination is translated (DNAT); ingress only; needs applyOnForward
	ApplyOnForward         bool         `json:"applyOnForward,omitempty"`         // also judges packets that a host forwards through its host endpoints
	ServiceAccountSelector string       `json:"serviceAccountSelector,omitempty"` // also selects by the labels of the endpoint's service account, which come from profiles named ksa.*
	NamespaceSelector      string       `json:"namespaceSelector,omitempty"`      // also selects by the labels of the endpoint's namespace, which come from profiles named kns.*
	PerformanceHints       []string     `json:"performanceHints,omitempty"`       // for Calico's agents; has no effect in Margay
}

// Profile adds labels to the endpoints that name it. Its rules decide packets that no tier decides.
type Profile struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     ProfileSpec `json:"spec"`
}

// ProfileSpec holds the labels and rules of a Profile.
type ProfileSpec struct {
	Ingress       []Rule            `json:"ingress,omitempty"`       // rules for packets to the endpoint that no tier decides
	Egress        []Rule            `json:"egress,omitempty"`        // rules for packets from the endpoint that no tier decides
	LabelsToApply map[string]string `json:"labelsToApply,omitempty"` // labels that endpoints with the profile get
}

// GlobalNetworkSet is a list of networks with labels. Selectors in rules match it like an endpoint.
type GlobalNetworkSet struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     NetworkSetSpec `json:"spec"`
}

// NetworkSetSpec holds the networks of a GlobalNetworkSet or NetworkSet.
type NetworkSetSpec struct {
	Nets []string `json:"nets,omitempty"` // CIDRs or addresses; host bits of a CIDR are ignored
}

// Action says what a rule does with a packet that it matches.
type Action string

const (
	Allow Action = "Allow" // accept the packet
	Deny  Action = "Deny"  // drop the packet
	Log   Action = "Log"   // log the packet and go on with the next rule
	Pass  Action = "Pass"  // go on with the next tier
)

// PolicyType is a direction that a policy judges.
type PolicyType string

const (
	Ingress PolicyType = "Ingress" // packets to the endpoint
	Egress  PolicyType = "Egress"  // packets from the endpoint
)

// Rule matches packets that meet all of its criteria. A criterion that is left out matches every packet.
type Rule struct {
	Action      Action        `json:"action"`
	IPVersion   *int          `json:"ipVersion,omitempty"`   // 4 or 6; both unless set
	Protocol    *Protocol     `json:"protocol,omitempty"`    // TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255
	ICMP        *ICMPFields   `json:"icmp,omitempty"`        // ICMP packets to match; needs protocol ICMP or ICMPv6
	NotProtocol *Protocol     `json:"notProtocol,omitempty"` // matches every protocol except this one
	NotICMP     *ICMPFields   `json:"notICMP,omitempty"`     // matches every packet except these ICMP packets
	Source      EntityRule    `json:"source,omitzero"`       // criteria for the sender of the packet
	Destination EntityRule    `json:"destination,omitzero"`  // criteria for the receiver of the packet
	HTTP        *HTTPMatch    `json:"http,omitempty"`        // criteria for HTTP requests; only in ingress Allow rules; stored, not enforced yet
	Metadata    *RuleMetadata `json:"metadata,omitempty"`    // notes of people and tools

	// Unknown names the fields that this version does not know. DecodeStored sets it. A rule with unknown fields never allows.
	Unknown []string `json:"-"`
	// Rest holds the values of these fields, with paths relative to this struct. Encode writes them back.
	Rest []RestField `json:"-"`
}

// ICMPFields matches ICMP or ICMPv6 packets by type, or by type and code.
type ICMPFields struct {
	Type *int `json:"type,omitempty"` // ICMP type: 0 to 254; any unless set
	Code *int `json:"code,omitempty"` // ICMP code: 0 to 255; any unless set; needs type
}

// RuleMetadata holds notes about a rule, which have no effect.
type RuleMetadata struct {
	Annotations map[string]string `json:"annotations,omitempty"` // notes of people and tools
}

// HTTPMatch matches HTTP requests. It is stored; the dataplane does not enforce it yet.
type HTTPMatch struct {
	Methods []string   `json:"methods,omitempty"` // HTTP methods, at most 20: GET, POST and so on; any unless set
	Paths   []HTTPPath `json:"paths,omitempty"`   // at most 20 paths, of which one must match; any unless set
}

// HTTPPath matches the path of a request by exactly one of its fields.
type HTTPPath struct {
	Exact  string `json:"exact,omitempty"`  // the whole path
	Prefix string `json:"prefix,omitempty"` // the beginning of the path
}

// EntityRule matches the sender or the receiver of a packet. All criteria must be met; a list is met if one of its elements
// matches.
type EntityRule struct {
	Nets              []string             `json:"nets,omitempty"`              // CIDRs or addresses
	Selector          string               `json:"selector,omitempty"`          // selects endpoints and network sets, whose addresses match; only those of the policy's namespace unless namespaceSelector is set
	NamespaceSelector string               `json:"namespaceSelector,omitempty"` // selects the namespaces of the endpoints and network sets; global(): objects without a namespace
	Services          *ServiceMatch        `json:"services,omitempty"`          // a Kubernetes service; stored, not enforced yet
	Ports             []Port               `json:"ports,omitempty"`             // numbers, ranges FIRST:LAST, or names of ports of the endpoints; at most 50
	Domains           []string             `json:"domains,omitempty"`           // domain names such as example.com or *.example.com; only for the destination of egress Allow rules; stored, not enforced yet
	NotNets           []string             `json:"notNets,omitempty"`           // CIDRs or addresses that must not contain the address
	NotSelector       string               `json:"notSelector,omitempty"`       // selects endpoints and network sets whose addresses do not match
	NotPorts          []Port               `json:"notPorts,omitempty"`          // ports that do not match, as in ports
	ServiceAccounts   *ServiceAccountMatch `json:"serviceAccounts,omitempty"`   // service accounts of the endpoints

	// Unknown names the fields that this version does not know. DecodeStored sets it. A rule with unknown fields never allows.
	Unknown []string `json:"-"`
	// Rest holds the values of these fields, with paths relative to this struct. Encode writes them back.
	Rest []RestField `json:"-"`
}

// ServiceMatch names a Kubernetes service. It is stored; the dataplane does not enforce it yet.
type ServiceMatch struct {
	Name      string `json:"name,omitempty"`      // name of the service
	Namespace string `json:"namespace,omitempty"` // namespace of the service: that of the policy unless set
}

// ServiceAccountMatch matches endpoints by the service account that they run as.
type ServiceAccountMatch struct {
	Names    []string `json:"names,omitempty"`    // names of service accounts, of which one must be the endpoint's; any unless set
	Selector string   `json:"selector,omitempty"` // selects service accounts by their labels
}

// Condition is one statement about the state of an object, as in Kubernetes.
type Condition struct {
	Type               string `json:"type"`                         // subject of the statement
	Status             string `json:"status"`                       // True, False or Unknown
	ObservedGeneration int64  `json:"observedGeneration,omitempty"` // metadata.generation of the object when the statement was made
	LastTransitionTime Time   `json:"lastTransitionTime"`           // time at which status changed last
	Reason             string `json:"reason"`                       // reason as one word, for programs
	Message            string `json:"message"`                      // reason as a sentence, for people
}

// Restricts says whether the match restricts its rule. A match that is present and empty does not.
func (i *ICMPFields) Restricts() bool { return i != nil && (i.Type != nil || i.Code != nil) }

// Restricts says whether the match restricts its rule. A match that is present and empty does not.
func (h *HTTPMatch) Restricts() bool { return h != nil && len(h.Methods)+len(h.Paths) > 0 }

// Restricts says whether the match restricts its rule. A match that is present and empty does not.
func (s *ServiceMatch) Restricts() bool { return s != nil && s.Name+s.Namespace != "" }

// Restricts says whether the match restricts its rule. A match that is present and empty does not. In particular it does not limit
// the rule to endpoints of the policy's namespace.
func (a *ServiceAccountMatch) Restricts() bool {
	return a != nil && (len(a.Names) > 0 || a.Selector != "")
}

package api

// Tier groups policies; tiers are evaluated in order.
type Tier struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     TierSpec   `json:"spec"`
	Status   TierStatus `json:"status"`
}

type TierSpec struct {
	Order         *float64 `json:"order,omitempty"`         // lower is evaluated first; unset is last
	DefaultAction Action   `json:"defaultAction,omitempty"` // Deny or Pass, for what no rule of the tier matched
}

type TierStatus struct {
	Conditions []Condition `json:"conditions,omitempty"`
}

// GlobalNetworkPolicy selects workload and host endpoints of every namespace.
type GlobalNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     GlobalNetworkPolicySpec `json:"spec"`
}

type GlobalNetworkPolicySpec struct {
	Tier                   string       `json:"tier,omitempty"`
	Order                  *float64     `json:"order,omitempty"` // unset is last
	Ingress                []Rule       `json:"ingress,omitempty"`
	Egress                 []Rule       `json:"egress,omitempty"`
	Selector               string       `json:"selector,omitempty"`
	Types                  []PolicyType `json:"types,omitempty"`
	DoNotTrack             bool         `json:"doNotTrack,omitempty"`
	PreDNAT                bool         `json:"preDNAT,omitempty"`
	ApplyOnForward         bool         `json:"applyOnForward,omitempty"`
	ServiceAccountSelector string       `json:"serviceAccountSelector,omitempty"`
	NamespaceSelector      string       `json:"namespaceSelector,omitempty"`
	PerformanceHints       []string     `json:"performanceHints,omitempty"`
}

// Profile gives endpoints labels, and rules that judge what no tier decided.
type Profile struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     ProfileSpec `json:"spec"`
}

type ProfileSpec struct {
	Ingress       []Rule            `json:"ingress,omitempty"`
	Egress        []Rule            `json:"egress,omitempty"`
	LabelsToApply map[string]string `json:"labelsToApply,omitempty"`
}

// GlobalNetworkSet is a labelled list of networks.
type GlobalNetworkSet struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     NetworkSetSpec `json:"spec"`
}

type NetworkSetSpec struct {
	Nets []string `json:"nets,omitempty"` // CIDRs or addresses; host bits are allowed
}

// Action is what a rule does with a packet that it matches.
type Action string

const (
	Allow Action = "Allow"
	Deny  Action = "Deny"
	Log   Action = "Log"
	Pass  Action = "Pass"
)

// PolicyType is a direction that a policy judges.
type PolicyType string

const (
	Ingress PolicyType = "Ingress"
	Egress  PolicyType = "Egress"
)

// Rule matches packets that meet all of its criteria; a criterion that is not given matches everything.
type Rule struct {
	Action      Action        `json:"action"`
	IPVersion   *int          `json:"ipVersion,omitempty"`
	Protocol    *Protocol     `json:"protocol,omitempty"`
	ICMP        *ICMPFields   `json:"icmp,omitempty"`
	NotProtocol *Protocol     `json:"notProtocol,omitempty"`
	NotICMP     *ICMPFields   `json:"notICMP,omitempty"`
	Source      EntityRule    `json:"source,omitzero"`
	Destination EntityRule    `json:"destination,omitzero"`
	HTTP        *HTTPMatch    `json:"http,omitempty"`
	Metadata    *RuleMetadata `json:"metadata,omitempty"`

	// Unknown names the fields that this version does not know. Such a rule never allows.
	Unknown []string `json:"-"`
	// Rest has their values, with paths from here, for Encode to write back.
	Rest []RestField `json:"-"`
}

type ICMPFields struct {
	Type *int `json:"type,omitempty"` // 0 to 254
	Code *int `json:"code,omitempty"` // 0 to 255
}

type RuleMetadata struct {
	Annotations map[string]string `json:"annotations,omitempty"`
}

// HTTPMatch is stored; the dataplane does not enforce it yet.
type HTTPMatch struct {
	Methods []string   `json:"methods,omitempty"`
	Paths   []HTTPPath `json:"paths,omitempty"`
}

type HTTPPath struct {
	Exact  string `json:"exact,omitempty"`
	Prefix string `json:"prefix,omitempty"`
}

// EntityRule is one side of a rule. Within Nets and within Ports one match suffices; the criteria are ANDed.
type EntityRule struct {
	Nets              []string             `json:"nets,omitempty"`
	Selector          string               `json:"selector,omitempty"`
	NamespaceSelector string               `json:"namespaceSelector,omitempty"`
	Services          *ServiceMatch        `json:"services,omitempty"`
	Ports             []Port               `json:"ports,omitempty"`
	Domains           []string             `json:"domains,omitempty"` // egress destinations; stored, not enforced yet
	NotNets           []string             `json:"notNets,omitempty"`
	NotSelector       string               `json:"notSelector,omitempty"`
	NotPorts          []Port               `json:"notPorts,omitempty"`
	ServiceAccounts   *ServiceAccountMatch `json:"serviceAccounts,omitempty"`

	// Unknown names the fields that this version does not know. A rule with such a side never allows.
	Unknown []string `json:"-"`
	// Rest has their values, with paths from here, for Encode to write back.
	Rest []RestField `json:"-"`
}

type ServiceMatch struct {
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

type ServiceAccountMatch struct {
	Names    []string `json:"names,omitempty"`
	Selector string   `json:"selector,omitempty"`
}

// Condition is one line of an object's status.
type Condition struct {
	Type               string `json:"type"`
	Status             string `json:"status"`
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
	LastTransitionTime Time   `json:"lastTransitionTime"`
	Reason             string `json:"reason"`
	Message            string `json:"message"`
}

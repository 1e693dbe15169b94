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
	DefaultAction *Action  `json:"defaultAction,omitempty"` // Deny or Pass, for what no rule of the tier matched
}

type TierStatus struct {
	Conditions []Condition `json:"conditions,omitempty"` // written by controllers
}

// GlobalNetworkPolicy selects workload and host endpoints of every namespace.
type GlobalNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     GlobalNetworkPolicySpec `json:"spec"`
}

type GlobalNetworkPolicySpec struct {
	Tier                   string       `json:"tier,omitempty"`                   // must exist when the policy is created
	Order                  *float64     `json:"order,omitempty"`                  // unset is last
	Ingress                []Rule       `json:"ingress,omitempty"`                // rules for packets to the endpoint, in order
	Egress                 []Rule       `json:"egress,omitempty"`                 // rules for packets from the endpoint, in order
	Selector               string       `json:"selector,omitempty"`               // endpoints that the policy is about; empty: all of them
	Types                  []PolicyType `json:"types,omitempty"`                  // directions that the policy judges: what no rule matches goes to the end of the tier. Left out, the directions with rules, or Ingress without any
	DoNotTrack             bool         `json:"doNotTrack,omitempty"`             // judges each packet of host endpoints for itself, before connections; needs applyOnForward
	PreDNAT                bool         `json:"preDNAT,omitempty"`                // judges packets to host endpoints before all else; needs applyOnForward
	ApplyOnForward         bool         `json:"applyOnForward,omitempty"`         // judges also what is forwarded through host endpoints
	ServiceAccountSelector string       `json:"serviceAccountSelector,omitempty"` // also asks about the labels of the endpoint's service account, which profiles ksa.* give
	NamespaceSelector      string       `json:"namespaceSelector,omitempty"`      // also asks about the labels of the endpoint's namespace, which profiles kns.* give
	PerformanceHints       []string     `json:"performanceHints,omitempty"`       // for Calico's agents, no effect here
}

// Profile gives endpoints labels, and rules that judge what no tier decided.
type Profile struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     ProfileSpec `json:"spec"`
}

type ProfileSpec struct {
	Ingress       []Rule            `json:"ingress,omitempty"`       // rules for packets to the endpoint that no tier decides
	Egress        []Rule            `json:"egress,omitempty"`        // rules for packets from the endpoint that no tier decides
	LabelsToApply map[string]string `json:"labelsToApply,omitempty"` // labels that endpoints with the profile have too
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
	IPVersion   *int          `json:"ipVersion,omitempty"`   // 4 or 6; both families when it is left out
	Protocol    *Protocol     `json:"protocol,omitempty"`    // a name or a number
	ICMP        *ICMPFields   `json:"icmp,omitempty"`        // needs protocol ICMP or ICMPv6
	NotProtocol *Protocol     `json:"notProtocol,omitempty"` // every protocol but this one
	NotICMP     *ICMPFields   `json:"notICMP,omitempty"`     // every packet but these
	Source      EntityRule    `json:"source,omitzero"`       // where the packet comes from
	Destination EntityRule    `json:"destination,omitzero"`  // where the packet goes
	HTTP        *HTTPMatch    `json:"http,omitempty"`        // ingress Allow rules only; stored, not enforced yet
	Metadata    *RuleMetadata `json:"metadata,omitempty"`    // notes of people and tools

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
	Annotations map[string]string `json:"annotations,omitempty"` // notes of people and tools
}

// HTTPMatch is stored; the dataplane does not enforce it yet.
type HTTPMatch struct {
	Methods []string   `json:"methods,omitempty"` // GET, POST and the like
	Paths   []HTTPPath `json:"paths,omitempty"`   // one of them must match
}

type HTTPPath struct {
	Exact  string `json:"exact,omitempty"`  // excludes prefix
	Prefix string `json:"prefix,omitempty"` // excludes exact
}

// EntityRule is one side of a rule. Within Nets and within Ports one match suffices; the criteria are ANDed.
type EntityRule struct {
	Nets              []string             `json:"nets,omitempty"`              // CIDRs or addresses
	Selector          string               `json:"selector,omitempty"`          // endpoints and network sets; those of the policy's namespace unless namespaceSelector is given
	NamespaceSelector string               `json:"namespaceSelector,omitempty"` // namespaces of the endpoints and sets that selector asks about; global(): those without
	Services          *ServiceMatch        `json:"services,omitempty"`          // a Kubernetes service; stored, not enforced yet
	Ports             []Port               `json:"ports,omitempty"`             // numbers, ranges FIRST:LAST, or names of the endpoints' ports
	Domains           []string             `json:"domains,omitempty"`           // egress destinations; stored, not enforced yet
	NotNets           []string             `json:"notNets,omitempty"`           // none of them may contain the address
	NotSelector       string               `json:"notSelector,omitempty"`       // the address may be of none that it selects
	NotPorts          []Port               `json:"notPorts,omitempty"`          // none of them may be the port
	ServiceAccounts   *ServiceAccountMatch `json:"serviceAccounts,omitempty"`   // of the endpoints that selector asks about

	// Unknown names the fields that this version does not know. A rule with such a side never allows.
	Unknown []string `json:"-"`
	// Rest has their values, with paths from here, for Encode to write back.
	Rest []RestField `json:"-"`
}

type ServiceMatch struct {
	Name      string `json:"name,omitempty"`      // of the service
	Namespace string `json:"namespace,omitempty"` // that of the policy, when it has one and this is left out
}

type ServiceAccountMatch struct {
	Names    []string `json:"names,omitempty"`    // one of them must be the endpoint's
	Selector string   `json:"selector,omitempty"` // asks about the service account's labels
}

// Condition is one line of an object's status.
type Condition struct {
	Type               string `json:"type"` // what it is about
	Status             string `json:"status"`
	ObservedGeneration int64  `json:"observedGeneration,omitempty"` // the metadata.generation that it is about
	LastTransitionTime Time   `json:"lastTransitionTime"`
	Reason             string `json:"reason"`  // a word for programs
	Message            string `json:"message"` // a sentence for people
}

// Restricts says that a match asks for something. One that is there and empty adds nothing to its rule.
func (i *ICMPFields) Restricts() bool { return i != nil && (i.Type != nil || i.Code != nil) }

// Restricts says that a match asks for something. One that is there and empty adds nothing to its rule.
func (h *HTTPMatch) Restricts() bool { return h != nil && len(h.Methods)+len(h.Paths) > 0 }

// Restricts says that a match asks for something. One that is there and empty adds nothing to its rule.
func (s *ServiceMatch) Restricts() bool { return s != nil && s.Name+s.Namespace != "" }

// Restricts says that a match asks for something. One that is there and empty adds nothing to its rule, not even that the
// other side is in the policy's namespace.
func (a *ServiceAccountMatch) Restricts() bool {
	return a != nil && (len(a.Names) > 0 || a.Selector != "")
}

package api

import "encoding/json"

// NetworkPolicy is a policy for workload endpoints of its namespace.
type NetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     NetworkPolicySpec `json:"spec"`
}

// NetworkPolicySpec says which endpoints a policy selects, when it is evaluated, and its rules.
type NetworkPolicySpec struct {
	Tier                   string       `json:"tier,omitempty"`                   // name of the Tier, which must exist when the policy is created: default unless set
	Order                  *float64     `json:"order,omitempty"`                  // policies with a lower order are evaluated first; without an order last
	Ingress                []Rule       `json:"ingress,omitempty"`                // rules for packets to the endpoint, in order
	Egress                 []Rule       `json:"egress,omitempty"`                 // rules for packets from the endpoint, in order
	Selector               string       `json:"selector,omitempty"`               // selects the endpoints of the namespace that the policy judges; empty: all
	Types                  []PolicyType `json:"types,omitempty"`                  // directions that the policy judges, also without rules: Ingress, Egress. Unless set, the directions that have rules; Ingress if none has
	ServiceAccountSelector string       `json:"serviceAccountSelector,omitempty"` // also selects by the labels of the endpoint's service account, which come from profiles named ksa.*
	PerformanceHints       []string     `json:"performanceHints,omitempty"`       // for Calico's agents; has no effect in Margay
}

// StagedGlobalNetworkPolicy proposes a GlobalNetworkPolicy. It is not enforced.
type StagedGlobalNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     StagedGlobalNetworkPolicySpec `json:"spec"`
}

// StagedGlobalNetworkPolicySpec says what to do with the GlobalNetworkPolicy of the same name.
type StagedGlobalNetworkPolicySpec struct {
	StagedAction StagedAction `json:"stagedAction,omitempty"` // Set, Delete, Learn or Ignore: Set unless set. With Delete only tier may be given besides
	GlobalNetworkPolicySpec
}

// StagedNetworkPolicy proposes a NetworkPolicy. It is not enforced.
type StagedNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     StagedNetworkPolicySpec `json:"spec"`
}

// StagedNetworkPolicySpec says what to do with the NetworkPolicy of the same name.
type StagedNetworkPolicySpec struct {
	StagedAction StagedAction `json:"stagedAction,omitempty"` // Set, Delete, Learn or Ignore: Set unless set. With Delete only tier may be given besides
	NetworkPolicySpec
}

// StagedKubernetesNetworkPolicy proposes a policy in the form of a Kubernetes NetworkPolicy. It is not enforced.
type StagedKubernetesNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     StagedKubernetesNetworkPolicySpec `json:"spec"`
}

// StagedKubernetesNetworkPolicySpec holds the fields of a Kubernetes NetworkPolicy.
type StagedKubernetesNetworkPolicySpec struct {
	StagedAction StagedAction        `json:"stagedAction,omitempty"` // Set, Delete, Learn or Ignore: Set unless set. With Delete no other field may be given
	PodSelector  LabelSelector       `json:"podSelector"`            // selects the workloads of the namespace that the policy judges
	Ingress      []KubernetesIngress `json:"ingress,omitempty"`      // rules for packets to the workload
	Egress       []KubernetesEgress  `json:"egress,omitempty"`       // rules for packets from the workload
	PolicyTypes  []PolicyType        `json:"policyTypes,omitempty"`  // directions that the policy judges: Ingress, Egress
}

// KubernetesIngress allows packets to a workload that match both lists.
type KubernetesIngress struct {
	Ports []KubernetesPort `json:"ports,omitempty"` // ports, of which one must match; empty: any
	From  []KubernetesPeer `json:"from,omitempty"`  // senders, of which one must match; empty: any
}

// KubernetesEgress allows packets from a workload that match both lists.
type KubernetesEgress struct {
	Ports []KubernetesPort `json:"ports,omitempty"` // ports, of which one must match; empty: any
	To    []KubernetesPeer `json:"to,omitempty"`    // receivers, of which one must match; empty: any
}

// KubernetesPort matches packets by protocol and destination port.
type KubernetesPort struct {
	Protocol *string         `json:"protocol,omitempty"` // TCP, UDP or SCTP: TCP unless set
	Port     json.RawMessage `json:"port,omitempty"`     // a number or the name of a port; any unless set
	EndPort  *int32          `json:"endPort,omitempty"`  // last port of a range that begins with port
}

// KubernetesPeer matches the other end of a connection: workloads by labels, or addresses.
type KubernetesPeer struct {
	PodSelector       *LabelSelector `json:"podSelector,omitempty"`       // selects workloads
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"` // selects the namespaces of the workloads
	IPBlock           *IPBlock       `json:"ipBlock,omitempty"`           // matches addresses; excludes the selectors
}

// IPBlock matches addresses of a network, with exceptions.
type IPBlock struct {
	CIDR   string   `json:"cidr"`             // a network
	Except []string `json:"except,omitempty"` // CIDRs within cidr that do not match
}

// LabelSelector is a selector in the form of Kubernetes. All of its requirements must hold.
type LabelSelector struct {
	MatchLabels      map[string]string  `json:"matchLabels,omitempty"`      // values that labels must have
	MatchExpressions []LabelRequirement `json:"matchExpressions,omitempty"` // further requirements, which must all hold
}

// LabelRequirement is one requirement of a LabelSelector.
type LabelRequirement struct {
	Key      string   `json:"key"`              // name of the label
	Operator string   `json:"operator"`         // In, NotIn, Exists, DoesNotExist
	Values   []string `json:"values,omitempty"` // values of the label, for In and NotIn
}

// NetworkSet is a list of networks with labels, in a namespace. Selectors in rules match it like an endpoint.
type NetworkSet struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     NetworkSetSpec `json:"spec"`
}

// StagedAction says what a staged policy proposes for the policy of the same name.
type StagedAction string

// Set creates or replaces the policy, Delete deletes it. Learn and Ignore are kept for other tools.
const (
	StagedSet    StagedAction = "Set"
	StagedDelete StagedAction = "Delete"
	StagedLearn  StagedAction = "Learn"
	StagedIgnore StagedAction = "Ignore"
)

// PolicyOf returns the spec of a policy in the form of GlobalNetworkPolicySpec, which has the fields of all kinds of policies.
// The spec shares its lists with the object. staged is empty for a policy that is enforced. ok is false for other kinds, also for
// StagedKubernetesNetworkPolicy, which is in no tier.
func PolicyOf(o Object) (spec GlobalNetworkPolicySpec, staged StagedAction, ok bool) {
	switch o := o.(type) {
	case *GlobalNetworkPolicy:
		return o.Spec, "", true
	case *NetworkPolicy:
		return o.Spec.wide(), "", true
	case *StagedGlobalNetworkPolicy:
		return o.Spec.GlobalNetworkPolicySpec, o.Spec.StagedAction, true
	case *StagedNetworkPolicy:
		return o.Spec.wide(), o.Spec.StagedAction, true
	}
	return spec, "", false
}

func (s NetworkPolicySpec) wide() GlobalNetworkPolicySpec {
	return GlobalNetworkPolicySpec{
		Tier: s.Tier, Order: s.Order, Ingress: s.Ingress, Egress: s.Egress, Selector: s.Selector, Types: s.Types,
		ServiceAccountSelector: s.ServiceAccountSelector, PerformanceHints: s.PerformanceHints,
	}
}

func (p *NetworkPolicy) setDefaults() {
	policyDefaults(&p.Metadata, &p.Spec.Tier, &p.Spec.Types, p.Spec.wide())
}

func (p *StagedNetworkPolicy) setDefaults() {
	fill(&p.Spec.StagedAction, StagedSet)
	if p.Spec.StagedAction == StagedDelete {
		p.Spec.Types = nil
		policyDefaults(&p.Metadata, &p.Spec.Tier, nil, GlobalNetworkPolicySpec{})
		return
	}
	policyDefaults(&p.Metadata, &p.Spec.Tier, &p.Spec.Types, p.Spec.wide())
}

func (p *StagedGlobalNetworkPolicy) setDefaults() {
	fill(&p.Spec.StagedAction, StagedSet)
	if p.Spec.StagedAction == StagedDelete {
		p.Spec.Types = nil
		policyDefaults(&p.Metadata, &p.Spec.Tier, nil, GlobalNetworkPolicySpec{})
		return
	}
	policyDefaults(&p.Metadata, &p.Spec.Tier, &p.Spec.Types, p.Spec.GlobalNetworkPolicySpec)
}

// policyDefaults fills in the tier, the label that names it, and the types that follow from the rules. It leaves types alone if
// the pointer is nil.
func policyDefaults(m *Metadata, tier *string, types *[]PolicyType, spec GlobalNetworkPolicySpec) {
	fill(tier, DefaultTier)
	if types != nil && len(*types) == 0 {
		*types = spec.impliedTypes()
	}
	setLabel(m, TierLabel, *tier)
}

package api

import "encoding/json"

// NetworkPolicy selects the workload endpoints of its namespace.
type NetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     NetworkPolicySpec `json:"spec"`
}

type NetworkPolicySpec struct {
	Tier                   string       `json:"tier,omitempty"`                   // must exist when the policy is created
	Order                  *float64     `json:"order,omitempty"`                  // unset is last
	Ingress                []Rule       `json:"ingress,omitempty"`                // rules for packets to the endpoint, in order
	Egress                 []Rule       `json:"egress,omitempty"`                 // rules for packets from the endpoint, in order
	Selector               string       `json:"selector,omitempty"`               // endpoints of the namespace that the policy is about; empty: all of them
	Types                  []PolicyType `json:"types,omitempty"`                  // directions that the policy judges: what no rule matches goes to the end of the tier. Left out, the directions with rules, or Ingress without any
	ServiceAccountSelector string       `json:"serviceAccountSelector,omitempty"` // also asks about the labels of the endpoint's service account, which profiles ksa.* give
	PerformanceHints       []string     `json:"performanceHints,omitempty"`       // for Calico's agents, no effect here
}

// StagedGlobalNetworkPolicy is a GlobalNetworkPolicy that is not enforced yet.
type StagedGlobalNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     StagedGlobalNetworkPolicySpec `json:"spec"`
}

type StagedGlobalNetworkPolicySpec struct {
	StagedAction StagedAction `json:"stagedAction,omitempty"` // with Delete every other field but tier must be left out
	GlobalNetworkPolicySpec
}

// StagedNetworkPolicy is a NetworkPolicy that is not enforced yet.
type StagedNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     StagedNetworkPolicySpec `json:"spec"`
}

type StagedNetworkPolicySpec struct {
	StagedAction StagedAction `json:"stagedAction,omitempty"` // with Delete every other field but tier must be left out
	NetworkPolicySpec
}

// StagedKubernetesNetworkPolicy is a policy in the words of Kubernetes that is not enforced yet.
type StagedKubernetesNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     StagedKubernetesNetworkPolicySpec `json:"spec"`
}

type StagedKubernetesNetworkPolicySpec struct {
	StagedAction StagedAction        `json:"stagedAction,omitempty"` // with Delete every other field must be left out
	PodSelector  LabelSelector       `json:"podSelector"`            // workloads of the namespace that the policy is about
	Ingress      []KubernetesIngress `json:"ingress,omitempty"`      // rules for packets to the workload
	Egress       []KubernetesEgress  `json:"egress,omitempty"`       // rules for packets from the workload
	PolicyTypes  []PolicyType        `json:"policyTypes,omitempty"`
}

type KubernetesIngress struct {
	Ports []KubernetesPort `json:"ports,omitempty"` // one of them must match; empty: any
	From  []KubernetesPeer `json:"from,omitempty"`  // one of them must match; empty: anybody
}

type KubernetesEgress struct {
	Ports []KubernetesPort `json:"ports,omitempty"` // one of them must match; empty: any
	To    []KubernetesPeer `json:"to,omitempty"`    // one of them must match; empty: anybody
}

type KubernetesPort struct {
	Protocol *string         `json:"protocol,omitempty"` // TCP unless set
	Port     json.RawMessage `json:"port,omitempty"`     // a number or a name
	EndPort  *int32          `json:"endPort,omitempty"`  // the last of a range of numbers
}

type KubernetesPeer struct {
	PodSelector       *LabelSelector `json:"podSelector,omitempty"`
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`
	IPBlock           *IPBlock       `json:"ipBlock,omitempty"` // excludes the selectors
}

type IPBlock struct {
	CIDR   string   `json:"cidr"`             // a network
	Except []string `json:"except,omitempty"` // CIDRs within cidr
}

// LabelSelector is a selector in the words of Kubernetes: all of its requirements must hold.
type LabelSelector struct {
	MatchLabels      map[string]string  `json:"matchLabels,omitempty"`      // labels with their values
	MatchExpressions []LabelRequirement `json:"matchExpressions,omitempty"` // all of them must hold
}

type LabelRequirement struct {
	Key      string   `json:"key"`              // the label's name
	Operator string   `json:"operator"`         // In, NotIn, Exists, DoesNotExist
	Values   []string `json:"values,omitempty"` // of the label, for In and NotIn
}

// NetworkSet is a labelled list of networks in a namespace.
type NetworkSet struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     NetworkSetSpec `json:"spec"`
}

// StagedAction is what would become of the policy that a staged one stands for.
type StagedAction string

const (
	StagedSet    StagedAction = "Set"
	StagedDelete StagedAction = "Delete"
	StagedLearn  StagedAction = "Learn"
	StagedIgnore StagedAction = "Ignore"
)

// PolicyOf is what a policy that is in a tier says, in the words of the kind with the most fields. It shares its lists with
// the object. StagedKubernetesNetworkPolicy is in no tier.
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

// policyDefaults fills in the tier, the label that names it, and the types that follow from the rules; none if types is nil.
func policyDefaults(m *Metadata, tier *string, types *[]PolicyType, spec GlobalNetworkPolicySpec) {
	fill(tier, DefaultTier)
	if types != nil && len(*types) == 0 {
		*types = spec.impliedTypes()
	}
	setLabel(m, TierLabel, *tier)
}

package api

import "encoding/json"

// NetworkPolicy selects the workload endpoints of its namespace.
type NetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     NetworkPolicySpec `json:"spec"`
}

type NetworkPolicySpec struct {
	Tier                   string       `json:"tier,omitempty"`
	Order                  *float64     `json:"order,omitempty"` // unset is last
	Ingress                []Rule       `json:"ingress,omitempty"`
	Egress                 []Rule       `json:"egress,omitempty"`
	Selector               string       `json:"selector,omitempty"`
	Types                  []PolicyType `json:"types,omitempty"`
	ServiceAccountSelector string       `json:"serviceAccountSelector,omitempty"`
	PerformanceHints       []string     `json:"performanceHints,omitempty"`
}

// StagedGlobalNetworkPolicy is a GlobalNetworkPolicy that is not enforced yet.
type StagedGlobalNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     StagedGlobalNetworkPolicySpec `json:"spec"`
}

type StagedGlobalNetworkPolicySpec struct {
	StagedAction StagedAction `json:"stagedAction,omitempty"`
	GlobalNetworkPolicySpec
}

// StagedNetworkPolicy is a NetworkPolicy that is not enforced yet.
type StagedNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     StagedNetworkPolicySpec `json:"spec"`
}

type StagedNetworkPolicySpec struct {
	StagedAction StagedAction `json:"stagedAction,omitempty"`
	NetworkPolicySpec
}

// StagedKubernetesNetworkPolicy is a policy in the words of Kubernetes that is not enforced yet.
type StagedKubernetesNetworkPolicy struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     StagedKubernetesNetworkPolicySpec `json:"spec"`
}

type StagedKubernetesNetworkPolicySpec struct {
	StagedAction StagedAction        `json:"stagedAction,omitempty"`
	PodSelector  LabelSelector       `json:"podSelector"`
	Ingress      []KubernetesIngress `json:"ingress,omitempty"`
	Egress       []KubernetesEgress  `json:"egress,omitempty"`
	PolicyTypes  []PolicyType        `json:"policyTypes,omitempty"`
}

type KubernetesIngress struct {
	Ports []KubernetesPort `json:"ports,omitempty"`
	From  []KubernetesPeer `json:"from,omitempty"`
}

type KubernetesEgress struct {
	Ports []KubernetesPort `json:"ports,omitempty"`
	To    []KubernetesPeer `json:"to,omitempty"`
}

type KubernetesPort struct {
	Protocol *string         `json:"protocol,omitempty"`
	Port     json.RawMessage `json:"port,omitempty"` // a number or a name
	EndPort  *int32          `json:"endPort,omitempty"`
}

type KubernetesPeer struct {
	PodSelector       *LabelSelector `json:"podSelector,omitempty"`
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`
	IPBlock           *IPBlock       `json:"ipBlock,omitempty"`
}

type IPBlock struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except,omitempty"`
}

// LabelSelector is a selector in the words of Kubernetes: all of its requirements must hold.
type LabelSelector struct {
	MatchLabels      map[string]string  `json:"matchLabels,omitempty"`
	MatchExpressions []LabelRequirement `json:"matchExpressions,omitempty"`
}

type LabelRequirement struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"` // In, NotIn, Exists, DoesNotExist
	Values   []string `json:"values,omitempty"`
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

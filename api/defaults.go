package api

import "strings"

// The built-in tiers, which exist in every datastore.
const (
	DefaultTier      = "default"
	KubeAdminTier    = "kube-admin"
	KubeBaselineTier = "kube-baseline"
)

// Labels that Default sets: the tier of a policy, the namespace and orchestrator of a workload endpoint.
const (
	TierLabel         = "projectcalico.org/tier"
	NamespaceLabel    = "projectcalico.org/namespace"
	OrchestratorLabel = "projectcalico.org/orchestrator"
)

// Default fills in the defaults of fields that a manifest leaves out. The object is stored with them. Calling it again changes
// nothing.
func Default(o Object) {
	if _, readOnly := o.(*ClaimedBlock); readOnly {
		return
	}
	setType(o, typeName(o))
	if kindsByName()[typeName(o)].Namespaced {
		fill(&o.Meta().Namespace, "default")
	}
	switch o := o.(type) {
	case *Tier:
		o.setDefaults()
	case *GlobalNetworkPolicy:
		o.setDefaults()
	case *NetworkPolicy:
		o.setDefaults()
	case *StagedGlobalNetworkPolicy:
		o.setDefaults()
	case *StagedNetworkPolicy:
		o.setDefaults()
	case *StagedKubernetesNetworkPolicy:
		fill(&o.Spec.StagedAction, StagedSet)
	case *WorkloadEndpoint:
		o.setDefaults()
	case *IPPool:
		o.setDefaults()
	case *BGPConfiguration:
		fill(&o.Spec.LogSeverityScreen, "Info")
		fill(&o.Spec.ServiceLoadBalancerAggregation, "Enabled")
	case *IPAMConfiguration:
		o.setDefaults()
	case *KubeControllersConfiguration:
		o.setDefaults()
	case *FelixConfiguration:
		o.setDefaults()
	}
}

func fill[T comparable](field *T, value T) {
	var unset T
	if *field == unset {
		*field = value
	}
}

func fillPointer[T any](field **T, value T) {
	if *field == nil {
		*field = new(value)
	}
}

func setLabel(m *Metadata, name, value string) {
	if m.Labels == nil {
		m.Labels = map[string]string{}
	}
	m.Labels[name] = value
}

// builtinTier returns the default order and default action of a tier. A built-in tier may not have others.
func builtinTier(name string) (order float64, action Action) {
	switch name {
	case KubeAdminTier:
		return 1000, Pass
	case KubeBaselineTier:
		return 10000000, Pass
	}
	return 1000000, Deny
}

func (t *Tier) setDefaults() {
	order, action := builtinTier(t.Name)
	fillPointer(&t.Spec.Order, order)
	fillPointer(&t.Spec.DefaultAction, action)
}

func (p *GlobalNetworkPolicy) setDefaults() {
	policyDefaults(&p.Metadata, &p.Spec.Tier, &p.Spec.Types, p.Spec)
}

// impliedTypes returns the directions that a policy without types judges: those that have rules, or Ingress if none has.
func (s *GlobalNetworkPolicySpec) impliedTypes() []PolicyType {
	switch {
	case len(s.Egress) == 0:
		return []PolicyType{Ingress}
	case len(s.Ingress) == 0:
		return []PolicyType{Egress}
	}
	return []PolicyType{Ingress, Egress}
}

func (w *WorkloadEndpoint) setDefaults() {
	if w.Name == "" {
		w.Name, _ = WorkloadEndpointName(w.Spec) // Validate reports the missing field
	}
	setLabel(&w.Metadata, NamespaceLabel, w.Namespace)
	if w.Spec.Orchestrator != "" {
		setLabel(&w.Metadata, OrchestratorLabel, w.Spec.Orchestrator)
	}
}

func (p *IPPool) setDefaults() {
	s := &p.Spec
	net, err := ParseNet(s.CIDR)
	if err == nil && strings.Contains(s.CIDR, "/") && !hasHostBits(s.CIDR) {
		s.CIDR = net.String()
	}
	if s.BlockSize == 0 && err == nil {
		s.BlockSize = 26
		if net.Addr().Is6() {
			s.BlockSize = 122
		}
	}
	fill(&s.NodeSelector, "all()")
	fill(&s.IPIPMode, "Never")
	fill(&s.VXLANMode, "Never")
	if len(s.AllowedUses) == 0 {
		s.AllowedUses = []string{"Workload", "Tunnel"}
	}
	fillPointer(&s.AssignmentMode, "Automatic")
}

func (f *FelixConfiguration) setDefaults() {
	s := &f.Spec
	if old := s.BPFConnectTimeLoadBalancingEnabled; old != nil && s.BPFConnectTimeLoadBalancing == nil {
		balancing, nat := "Disabled", "Enabled"
		if *old {
			balancing, nat = "Enabled", "Disabled"
		}
		fillPointer(&s.BPFConnectTimeLoadBalancing, balancing)
		fillPointer(&s.BPFHostNetworkedNATWithoutCTLB, nat)
	}
	fillPointer(&s.BPFConnectTimeLoadBalancing, "TCP")
	fillPointer(&s.BPFHostNetworkedNATWithoutCTLB, "Enabled")
	fillPointer(&s.FloatingIPs, "Disabled")
	fillPointer(&s.NFTablesMode, "Auto")
	fillPointer(&s.NFTablesFlowTableOffload, "Disabled")
}

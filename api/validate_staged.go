package api

import (
	"reflect"
	"strings"
)

// networkPolicy checks a policy of a namespace.
func (c *checker) networkPolicy(name string, spec NetworkPolicySpec) {
	wide := spec.wide()
	c.namespacedPolicyName(name)
	c.policySpec(&wide, true)
}

// namespacedPolicyName checks the name of a policy. Policies that were made from Kubernetes policies have a prefix, and any number of
// dots after it.
func (c *checker) namespacedPolicyName(name string) {
	for _, prefix := range []string{"knp.default.", "ossg.default."} {
		if strings.HasPrefix(name, prefix) {
			c.name(name, 127)
			return
		}
	}
	c.name(name, 2)
}

func (c *checker) stagedGlobal(p *StagedGlobalNetworkPolicy) {
	c.name(p.Name, 2)
	s := p.Spec
	if c.stagedAction(s.StagedAction); s.StagedAction == StagedDelete {
		s.StagedAction, s.Tier = "", ""
		c.nothingElse(s)
		return
	}
	c.policySpec(&s.GlobalNetworkPolicySpec, false)
}

func (c *checker) stagedNamespaced(p *StagedNetworkPolicy) {
	s := p.Spec
	if c.stagedAction(s.StagedAction); s.StagedAction == StagedDelete {
		s.StagedAction, s.Tier = "", ""
		c.namespacedPolicyName(p.Name)
		c.nothingElse(s)
		return
	}
	c.networkPolicy(p.Name, s.NetworkPolicySpec)
}

func (c *checker) stagedKubernetes(p *StagedKubernetesNetworkPolicy) {
	s := p.Spec
	c.name(p.Name, 127)
	if c.stagedAction(s.StagedAction); s.StagedAction == StagedDelete {
		s.StagedAction = ""
		c.nothingElse(s)
		return
	}
	c.labelSelector("spec.podSelector", s.PodSelector)
	for i, t := range s.PolicyTypes {
		if t != Ingress && t != Egress {
			c.add(at("spec.policyTypes", i), t, "want Ingress or Egress")
		}
	}
	for i, rule := range s.Ingress {
		c.kubernetesPeers(at("spec.ingress", i)+".from", rule.From)
	}
	for i, rule := range s.Egress {
		c.kubernetesPeers(at("spec.egress", i)+".to", rule.To)
	}
}

func (c *checker) stagedAction(a StagedAction) {
	c.oneOf("spec.stagedAction", string(a), string(StagedSet), string(StagedDelete), string(StagedLearn), string(StagedIgnore))
}

func (c *checker) nothingElse(spec any) {
	if !reflect.ValueOf(spec).IsZero() {
		c.add("spec.stagedAction", StagedDelete, "a policy that is to be deleted says nothing but its tier: remove the other fields, empty ones too")
	}
}

func (c *checker) labelSelector(path string, s LabelSelector) {
	c.labels(path+".matchLabels", s.MatchLabels)
	for i, r := range s.MatchExpressions {
		where := at(path+".matchExpressions", i)
		if !isQualified(r.Key) {
			c.add(where+".key", r.Key, "want a label's name: letters, digits, '-', '_' and '.' inside, at most 63, or DOMAIN/NAME")
		}
		if r.Operator == "" {
			c.add(where+".operator", "", "missing: want In, NotIn, Exists or DoesNotExist")
		}
		c.oneOf(where+".operator", r.Operator, "In", "NotIn", "Exists", "DoesNotExist")
	}
}

func (c *checker) kubernetesPeers(path string, peers []KubernetesPeer) {
	for i, p := range peers {
		if p.PodSelector != nil {
			c.labelSelector(at(path, i)+".podSelector", *p.PodSelector)
		}
		if p.NamespaceSelector != nil {
			c.labelSelector(at(path, i)+".namespaceSelector", *p.NamespaceSelector)
		}
		if p.IPBlock != nil {
			c.net(at(path, i)+".ipBlock.cidr", p.IPBlock.CIDR, 0)
			for j, except := range p.IPBlock.Except {
				c.net(at(at(path, i)+".ipBlock.except", j), except, 0)
			}
		}
	}
}

package api

import (
	"testing"
)

func TestKindsAreFoundByEveryName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"GlobalNetworkPolicy": "GlobalNetworkPolicy", "globalnetworkpolicies": "GlobalNetworkPolicy", "GNP": "GlobalNetworkPolicy",
		"felixconfig": "FelixConfiguration", "no": "Node", "nodes": "Node", "Tier": "Tier", "tiers": "Tier", "pool": "IPPool",
		"wep": "WorkloadEndpoint", "bp": "BGPPeer", "clusterinfo": "ClusterInformation", "ipamblock": "", "np": "NetworkPolicy", "bf": "BGPFilter", "nodestatus": "CalicoNodeStatus",
		"reservations": "IPReservation", "ipamconfig": "IPAMConfiguration", "kubecontrollersconfig": "KubeControllersConfiguration",
		"skpol": "StagedKubernetesNetworkPolicy", "": "",
	} {
		k, ok := KindOf(name)
		if k.Name != want || ok != (want != "") {
			t.Errorf("%s is %q, want %q", name, k.Name, want)
		}
	}
	if k, ok := ForeignKindOf("livemigration"); !ok || k.Name != "LiveMigration" {
		t.Errorf("%v %v", k, ok)
	}
}

func TestNoNameMeansTwoKinds(t *testing.T) {
	t.Parallel()
	owner := map[string]string{}
	for _, k := range append(Kinds(), ForeignKinds()...) {
		for _, name := range append([]string{k.Name, k.Plural}, k.Aliases...) {
			if other, taken := owner[name]; taken {
				t.Errorf("%s means %s and %s", name, other, k.Name)
			}
			owner[name] = k.Name
		}
	}
}

func TestNewObjectsHaveTheirKindAndVersion(t *testing.T) {
	t.Parallel()
	for _, k := range append(Kinds(), internalKinds()...) {
		o, ok := New(k.Name)
		if !ok || *o.Type() != (TypeMeta{k.Name, APIVersion}) || o.Meta() == nil {
			t.Errorf("%s: %+v", k.Name, o)
		}
		Default(o)
		Warnings(o, "")
		_ = Validate(o)
		if _, err := Encode(o); err != nil {
			t.Error(err)
		}
	}
	if _, ok := New("Widget"); ok {
		t.Error("there is no Widget")
	}
}

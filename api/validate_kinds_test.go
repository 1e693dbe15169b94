package api

import (
	"strings"
	"testing"
)

// Each manifest is wrong in one place, which the error names.
func TestConfigurationKindsNameTheInvalidField(t *testing.T) {
	t.Parallel()
	for manifest, want := range map[string]string{
		"kind: BGPFilter\nspec: {importV4: [{action: Accept, cidr: 10.0.0.1/8, matchOperator: In}]}":                          "spec.importV4[0].cidr = '10.0.0.1/8' (address bits outside of the prefix are set: did you mean 10.0.0.0/8?)",
		"kind: BGPFilter\nspec: {importV4: [{action: Accept, cidr: 10.0.0.1, matchOperator: In}]}":                            "spec.importV4[0].cidr = '10.0.0.1' (want an IPv4 network",
		"kind: BGPFilter\nspec: {exportV6: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: In}]}":                          "spec.exportV6[0].cidr = '10.0.0.0/8' (want an IPv6 network",
		"kind: BGPFilter\nspec: {importV4: [{action: Accept, cidr: 10.0.0.0/8}]}":                                             "spec.importV4[0].matchOperator = '' (missing",
		"kind: BGPFilter\nspec: {importV4: [{action: Accept, prefixLength: {min: 8}}]}":                                       "spec.importV4[0].prefixLength = '{\"min\":8}' (only with a cidr",
		"kind: BGPFilter\nspec: {importV4: [{cidr: 10.0.0.0/8, matchOperator: In}]}":                                          "spec.importV4[0].action = '' (missing",
		"kind: BGPFilter\nspec: {importV4: [{action: Accept, source: Peers}]}":                                                "spec.importV4[0].source = 'Peers' (want one of RemotePeers)",
		"kind: BGPFilter\nspec: {importV4: [{action: Accept, interface: a-name-too-long-}]}":                                  "spec.importV4[0].interface",
		"kind: BGPFilter\nspec: {importV4: [{action: Accept, priority: 0}]}":                                                  "spec.importV4[0].priority = '0' (want 1 to 2147483646)",
		"kind: BGPFilter\nspec: {importV6: [{action: Accept, operations: [{prependASPath: {prefix: []}}]}]}":                  "spec.importV6[0].operations[0].prependASPath.prefix = '0 AS numbers' (want 1 to 10)",
		"kind: BGPFilter\nspec: {importV6: [{action: Accept, operations: [{addCommunity: {value: '1:65536'}}]}]}":             "spec.importV6[0].operations[0].addCommunity.value = '1:65536'",
		"kind: IPReservation\nspec: {reservedCIDRs: [10.0.0.1]}":                                                              "spec.reservedCIDRs[0] = '10.0.0.1' (want a CIDR: did you mean 10.0.0.1/32?)",
		"kind: IPAMConfiguration\nspec: {ipCooldownSeconds: -1}":                                                              "spec.ipCooldownSeconds = '-1' (want 0 to 1200)",
		"kind: IPAMConfiguration\nspec: {kubeVirtVMAddressPersistence: enabled}":                                              "spec.kubeVirtVMAddressPersistence = 'enabled' (want one of Enabled, Disabled)",
		"kind: CalicoNodeStatus\nspec: {node: n, classes: [BGP]}":                                                             "spec.updatePeriodSeconds = '' (missing",
		"kind: CalicoNodeStatus\nspec: {node: n, classes: [BGP], updatePeriodSeconds: 86401}":                                 "spec.updatePeriodSeconds = '86401' (want 0 to 86400)",
		"kind: CalicoNodeStatus\nspec: {classes: [BGP], updatePeriodSeconds: 1}":                                              "spec.node = '' (want the name of a node",
		"kind: KubeControllersConfiguration\nspec: {prometheusMetricsPort: 65536}":                                            "spec.prometheusMetricsPort = '65536' (want 0 to 65535)",
		"kind: KubeControllersConfiguration\nspec: {controllers: {node: {hostEndpoint: {templates: [{}]}}}}":                  "spec.controllers.node.hostEndpoint.templates[0].generateName = '' (missing",
		"kind: KubeControllersConfiguration\nspec: {controllers: {node: {syncLabels: on}}}":                                   "spec.controllers.node.syncLabels",
		"kind: KubeControllersConfiguration\nspec: {controllers: {loadBalancer: {assignIPs: Some}}}":                          "spec.controllers.loadBalancer.assignIPs = 'Some'",
		"kind: BGPFilter\nspec: {importV4: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {max: 33}}]}": "spec.importV4[0].prefixLength.max = '33' (want 0 to 32)",
	} {
		valid, problem := accepted("apiVersion: projectcalico.org/v3\nmetadata: {name: default}\n" + manifest)
		if valid || !strings.Contains(problem, want) {
			t.Errorf("%s\n%s\nwant %s", manifest, problem, want)
		}
	}
}

func TestASettingOfTheWholeClusterHasOneName(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ClusterInformation", "IPAMConfiguration", "KubeControllersConfiguration"} {
		valid, problem := accepted("apiVersion: projectcalico.org/v3\nkind: " + kind + "\nmetadata: {name: other}\nspec: {}\n")
		if valid || !strings.Contains(problem, "metadata.name = 'other'") {
			t.Errorf("%s: %s", kind, problem)
		}
	}
}

func TestAStatusThatAnAgentWroteIsWrittenBackAsItWas(t *testing.T) {
	t.Parallel()
	const value = `{"kind":"CalicoNodeStatus","apiVersion":"projectcalico.org/v3","metadata":{"name":"n"},` +
		`"spec":{"node":"n","classes":["BGP"],"updatePeriodSeconds":10},` +
		`"status":{"lastUpdated":"2026-01-02T03:04:05Z","agent":{"birdV4":{"state":"Ready"},"birdV6":{}},` +
		`"bgp":{"numberEstablishedV4":1,"numberNotEstablishedV4":0,"numberEstablishedV6":0,"numberNotEstablishedV6":0,` +
		`"peersV4":[{"peerIP":"10.0.0.1","type":"NodeMesh","state":"Established","since":"03:04:05"}]},` +
		`"routes":{"routesV4":[{"type":"FIB","destination":"10.0.0.0/24","gateway":"N/A","interface":"eth0","learnedFrom":{"sourceType":"Direct"}}]}}}`
	o, err := DecodeStored("CalicoNodeStatus", []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Encode(o); err != nil || string(got) != value || len(o.Meta().Rest) > 0 {
		t.Errorf("%v %v\n%s\nwant\n%s", err, o.Meta().Rest, got, value)
	}
}

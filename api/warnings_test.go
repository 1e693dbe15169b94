package api

import (
	"os"
	"strings"
	"testing"
)

func warningsOf(t *testing.T, manifest string) string {
	t.Helper()
	objects, err := Decode([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	Default(objects[0])
	return strings.Join(Warnings(objects[0], ""), "\n")
}

func seed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSeedManifestsGiveTheirWarnings(t *testing.T) {
	t.Parallel()
	got := warningsOf(t, seed(t, "block-crypto-mining.yaml"))
	for _, want := range []string{"makes every workload and host endpoint default-deny",
		"none of its rules allows ingress or egress", "denied at the end of tier default", "defaultAction Pass"} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in:\n%s", want, got)
		}
	}
	got = warningsOf(t, seed(t, "allow-dns-only.yaml"))
	want := "spec.egress[0].destination.domains is stored, not enforced yet: until it is, the rule never matches\n" +
		"spec.egress[0].destination.domains is out of reach: no rule before it allows DNS to a resolver (UDP port 53), " +
		"so the names are never learned. Put a rule that allows it first"
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"selector: has(a)\n  ingress: [{action: Deny, protocol: TCP}]": "the policy makes the endpoints that it selects default-deny: none of its rules allows ingress, and the rest is denied",
		"selector: all()\n  ingress: [{action: Allow, protocol: TCP}]": "the policy makes every workload and host endpoint default-deny: its rules allow only part of their ingress",
		"types: [Egress]": "none of its rules allows egress, and the rest is denied at the end of tier default",
		"selector: has(a)\n  ingress: [{action: Allow, protocol: TCP}]":                                                   "",
		"selector: has(a)\n  ingress: []":                                                                                 "",
		"selector: has(a)\n  ingress: [{action: Deny}]":                                                                   "",
		"selector: all()\n  ingress: [{action: Deny, protocol: TCP}, {action: Allow}]":                                    "",
		"ingress: [{action: Deny}]":                                                                                       "every workload and host endpoint default-deny",
		"tier: kube-admin\n  ingress: [{action: Deny, protocol: TCP}]":                                                    "",
		"doNotTrack: true\n  applyOnForward: true\n  ingress: [{action: Deny, protocol: TCP}]":                            "",
		"selector: has(a)\n  ingress: [{action: Allow, http: {methods: [GET]}}]":                                          "spec.ingress[0].http is stored, not enforced yet: until it is, the rule never matches",
		"selector: has(a)\n  egress: [{action: Deny, destination: {services: {name: a, namespace: b}}}, {action: Allow}]": "spec.egress[0].destination.services is stored, not enforced yet: the rule denies as if the field were not there",
	} {
		got := warningsOf(t, head+"spec:\n  "+spec+"\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s\n%s\nwant %s", spec, got, want)
		}
	}
}

// Each of these is stored and has another effect than it seems to have.
func TestWarningsOfRulesThatMeanSomethingElse(t *testing.T) {
	t.Parallel()
	const others = "selector: has(a)\n  order: 10\n  types: [Ingress, Egress]\n  egress: [{action: Allow}]\n  ingress: "
	for rules, want := range map[string]string{
		"[{action: Allow, source: {nets: []}}]":                                                      "spec.ingress[0].source.nets is empty, which restricts nothing: the rule matches every address. Give values",
		"[{action: Allow, source: {nets: [], selector: has(b)}}]":                                    "spec.ingress[0].source.nets is empty, which restricts nothing: the rule matches as if it were not there.",
		"[{action: Allow, protocol: TCP, destination: {ports: []}}]":                                 "spec.ingress[0].destination.ports is empty, which restricts nothing: the rule matches every port.",
		"[{action: Deny, protocol: TCP, destination: {ports: [], notPorts: [22]}}, {action: Allow}]": "the rule matches every port but those of notPorts.",
		"[{action: Deny, source: {serviceAccounts: {}}}]":                                            "spec.ingress[0].source.serviceAccounts is empty, which restricts nothing: the rule matches every address.",
		"[{action: Allow, source: {serviceAccounts: {names: []}}}]":                                  "spec.ingress[0].source.serviceAccounts is empty",
		"[{action: Allow, source: {nets: [10.0.0.0/8], notNets: []}}]":                               "",
		"[{action: Allow, source: {}, destination: {ports: [80]}, protocol: TCP}]":                   "",
		"[{action: Allow}, {action: Deny, source: {nets: [10.0.0.0/8]}}]":                            "spec.ingress[1] is never reached: spec.ingress[0] before it matches everything.",
		"[{action: Log}, {action: Deny}, {action: Log}, {action: Allow}]":                            "spec.ingress[2] (and the 1 after it) is never reached: spec.ingress[1] before it",
		"[{action: Pass}, {action: Allow}]":                                                          "spec.ingress[1] is never reached",
		"[{action: Log}, {action: Allow, ipVersion: 4}, {action: Deny}]":                             "",
		"[{action: Deny, source: {selector: all()}}, {action: Allow}]":                               "",
	} {
		got := warningsOf(t, head+"spec:\n  "+others+rules+"\n")
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s\n%s\nwant %s", rules, got, want)
		}
	}
}

func TestWarningsOfRulesThatJudgeNothing(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"types: [Ingress]\n  ingress: [{action: Allow}]\n  egress: [{action: Deny}]": "the rules of spec.egress have no effect: spec.types does not name Egress.",
		"types: [Egress]\n  ingress: [{action: Allow}]\n  egress: [{action: Allow}]": "the rules of spec.ingress have no effect: spec.types does not name Ingress.",
		"ingress: [{action: Allow}]\n  egress: [{action: Allow}]":                    "",
		"types: [Egress, Ingress]\n  ingress: [{action: Allow}]":                     "every workload and host endpoint default-deny: none of its rules allows egress",
	} {
		got := warningsOf(t, head+"spec:\n  "+spec+"\n")
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s\n%s\nwant %s", spec, got, want)
		}
	}
}

func TestADomainRuleBehindDNSIsWithinReach(t *testing.T) {
	t.Parallel()
	for before, reachable := range map[string]bool{
		"{action: Allow, protocol: UDP, destination: {ports: [53]}}":            true,
		"{action: Allow, destination: {ports: ['50:60'], nets: [10.0.0.53]}}":   true,
		"{action: Allow, destination: {nets: [10.0.0.53/32]}}":                  true,
		"{action: Allow, protocol: TCP, destination: {ports: [53]}}":            false,
		"{action: Allow, protocol: UDP, destination: {ports: [5353]}}":          false,
		"{action: Deny, protocol: UDP, destination: {ports: [53]}}":             false,
		"{action: Allow, protocol: UDP, destination: {notPorts: [53]}}":         false,
		"{action: Allow, protocol: UDP, destination: {domains: [example.com]}}": false,
	} {
		got := warningsOf(t, head+"spec:\n  egress:\n  - "+before+"\n  - {action: Allow, destination: {domains: ['*.example.com']}}\n")
		if strings.Contains(got, "spec.egress[1].destination.domains is out of reach") == reachable {
			t.Errorf("%s: %s", before, got)
		}
	}
}

func TestATierThatPassesMakesNothingDefaultDeny(t *testing.T) {
	t.Parallel()
	objects, err := Decode([]byte(seed(t, "block-crypto-mining.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	if got := Warnings(objects[0], Pass); len(got) > 0 {
		t.Errorf("warnings about a policy in a tier that passes: %v", got)
	}
}

func TestWarningsOfOtherKinds(t *testing.T) {
	t.Parallel()
	for manifest, want := range map[string]string{
		"kind: IPPool\nspec: {cidr: 10.0.0.0/16, ipipMode: Always}":                              "tunnels are not built yet",
		"kind: FelixConfiguration\nspec: {bpfEnabled: false}":                                    "always enforces policy with eBPF",
		"kind: FelixConfiguration\nmetadata: {name: rack-1}\nspec: {}":                           "no node uses the object",
		"kind: FelixConfiguration\nmetadata: {name: rack-1}\nspec: {nodeSelector: rack == 'r1'}": "",
		"kind: FelixConfiguration\nmetadata: {name: node.node-a}\nspec: {}":                      "",
		"kind: Profile\nspec: {ingress: [{action: Permit}]}":                                     "spec.ingress[0].action Permit is not known",
		"kind: KubeControllersConfiguration\nspec: {}":                                           "Margay does not use Kubernetes",
		"kind: Profile\nspec: {ingress: [{action: Pass}]}":                                       "spec.ingress[0].action Pass denies in a profile",
		"kind: Profile\nspec: {ingress: [{action: Allow, source: {nets: []}}]}":                  "spec.ingress[0].source.nets is empty",
		"kind: Profile\nspec: {ingress: [{action: Allow}], egress: [{action: Deny}]}":            "",
		"kind: CalicoNodeStatus\nspec: {}":                                                       "",
		"kind: Tier\nspec: {}":                                                                   "",
	} {
		if !strings.Contains(manifest, "metadata:") {
			manifest += "\nmetadata: {name: default}"
		}
		got := warningsOf(t, "apiVersion: projectcalico.org/v3\n"+manifest)
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", manifest, got, want)
		}
	}
}

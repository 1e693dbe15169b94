package api

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// The recorded verdicts of Calico's validation are the expected result: of the manifests that Margay accepts, exactly those that
// Calico refuses need a relaxation. Differences that a decoded object no longer shows are left out.
func TestRelaxationsAreWhatCalicoRefuses(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/validate.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	differ, refused, plain, used := differences(t), 0, 0, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		var r recorded
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		why, known := differ[r.Note]
		objects, err := Decode([]byte(r.Manifest))
		if valid, _ := accepted(r.Manifest); err != nil || !valid || why == "store" {
			continue
		}
		var found []string
		for _, o := range objects {
			Default(o)
			for _, relaxed := range Relaxations() {
				of := relaxed.Found(o)
				used[relaxed.What] = used[relaxed.What] || len(of) > 0
				found = append(found, of...)
			}
		}
		switch wanted := known && !r.Valid; {
		case wanted && (strings.HasPrefix(r.Note, "documents: ") || strings.HasPrefix(r.Note, "WorkloadEndpoint: name")):
		case wanted && len(found) == 0:
			t.Errorf("%s (%s): nothing found, although %s", r.ID, r.Note, why)
		case !wanted && len(found) > 0:
			t.Errorf("%s (%s): Calico takes it, but %q", r.ID, r.Note, found)
		case wanted:
			refused++
		default:
			plain++
		}
	}
	for _, relaxed := range Relaxations() {
		if !used[relaxed.What] {
			t.Errorf("%s: no recorded manifest needs it", relaxed.What)
		}
	}
	t.Logf("%d manifests need a relaxation, %d do not", refused, plain)
}

func TestRelaxationsAreDocumented(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"../docs/compatibility.md", "../docs/migration.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range Relaxations() {
			if !strings.Contains(string(text), "| "+r.What+" |") {
				t.Errorf("%s has no row %q", page, r.What)
			}
		}
	}
}

func TestRelaxationsOfProfilesAndEndpoints(t *testing.T) {
	t.Parallel()
	for manifest, want := range map[string]string{
		"kind: Profile\nspec: {ingress: [{action: Deny, destination: {ports: [80]}}]}":           "spec.ingress[0].destination.ports: Calico accepts the number 80 only with a protocol",
		"kind: Profile\nspec: {egress: [{action: Deny, source: {notPorts: [http, '1:9']}}]}":     "spec.egress[0].source.notPorts: Calico accepts the number 1:9 only with a protocol",
		"kind: GlobalNetworkPolicy\nspec: {ingress: [{action: Allow, source: {nets: ['::1']}}]}": "spec.ingress[0].source.nets: ::1 needs its length: ::1/128",
		"kind: GlobalNetworkPolicy\nspec: {ingress: [{action: Allow, notProtocol: icmpV6}]}":     "spec.ingress[0].notProtocol: Calico knows icmpV6 only as ICMPv6",
		"kind: FelixConfiguration\nspec: {reportingInterval: 1.5s}":                              "spec.reportingInterval: 1.5s has a fraction",
		"kind: FelixConfiguration\nspec: {reportingInterval: 90s}":                               "",
		"kind: GlobalNetworkPolicy\nspec: {ingress: [{action: Allow, source: {ports: [http]}}]}": "",
	} {
		objects, err := Decode([]byte("apiVersion: projectcalico.org/v3\nmetadata: {name: default}\n" + manifest))
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, r := range Relaxations() {
			found = append(found, r.Found(objects[0])...)
		}
		if got := strings.Join(found, "\n"); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", manifest, got, want)
		}
	}
}

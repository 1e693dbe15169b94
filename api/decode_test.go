package api

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const head = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n  name: a\n"

func TestMistakesAreNamedWithASuggestion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		head + "spec:\n  ingres: []\n":                                                  `document 1, GlobalNetworkPolicy a, line 6: unknown field spec.ingres, did you mean spec.ingress?`,
		head + "spec:\n  ingress:\n  - action: Deny\n    ports: [1]\n":                  `unknown field spec.ingress[0].ports, did you mean spec.ingress[0].source.ports or spec.ingress[0].destination.ports?`,
		head + "spec:\n  zzzzzz: 1\n":                                                   `unknown field spec.zzzzzz: want one of applyOnForward, doNotTrack, egress,`,
		head + "selector: all()\n":                                                      `unknown field selector, did you mean spec.selector?`,
		head + "spec: []\n":                                                             `line 5: spec: want fields, not a list`,
		head + "spec:\n  order: '5'\n":                                                  `spec.order: want a number, not the text "5"`,
		head + "spec:\n  doNotTrack: 'yes'\n":                                           `spec.doNotTrack: want true or false, not the text "yes"`,
		head + "spec:\n  types: Ingress\n":                                              `spec.types: want a list, not the text "Ingress"`,
		head + "spec:\n  ingress:\n  - {action: Deny, destination: {ports: [70000]}}\n": `spec.ingress[0].destination.ports[0]: want a port from 1 to 65535, a range such as 8000:8010, or the name of a port, not 70000`,
		head + "spec:\n  ingress:\n  - {action: Deny, protocol: 300}\n":                 `spec.ingress[0].protocol: want a protocol: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255, not 300`,
		head + "spec:\n  order: 1\n  Order: 2\n":                                        `spec.Order: given twice: remove one`,
		head + "spec:\n  order: 1\n\torder: 2\n":                                        `document 1: line 6: not valid YAML: found a tab character that violates indentation`,
		strings.Replace(head, "GlobalNetworkPolicy", "GlobalNetworkPolcy", 1):           `document 1, line 1: unknown kind "GlobalNetworkPolcy", did you mean GlobalNetworkPolicy?`,
		strings.Replace(head, "GlobalNetworkPolicy", "gnp", 1):                          `unknown kind "gnp", did you mean GlobalNetworkPolicy?`,
		strings.Replace(head, "GlobalNetworkPolicy", "LiveMigration", 1):                `kind LiveMigration is not supported: remove the object, or use calicoctl for it`,
		strings.Replace(head, "calico.org/v3", "calico.org/v2", 1):                      `unknown apiVersion "projectcalico.org/v2": want projectcalico.org/v3`,
		strings.Replace(head, "name: a", "labels: {}", 1):                               `metadata.name is missing: give the object a name`,
		"metadata: {}\n": `kind is missing: want one of BGPConfiguration, BGPFilter, BGPPeer,`,
		"kind: List\napiVersion: projectcalico.org/v3\nitems: []\n":       `unknown kind "List"`,
		"kind: WidgetList\napiVersion: projectcalico.org/v3\nitems: []\n": `unknown kind "WidgetList"`,
		"kind: TierList\napiVersion: v1\nitems: []\n":                     `unknown apiVersion "v1": want projectcalico.org/v3`,
		"hello\n":             `document 1, line 1: want an object with apiVersion, kind, metadata and spec, not text`,
		head + "---\n" + head: `document 2, line 6: GlobalNetworkPolicy(a) is given twice, first in document 1: remove one`,
		"kind: Tier\n---\n" + head + "spec:\n  ordr: 1\n":                         `document 2, GlobalNetworkPolicy a, line 8: unknown field spec.ordr, did you mean spec.order?`,
		head + "spec:\n  order: !!binary 1\n":                                     `line 6: the tag !!binary is not supported`,
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n":                        `document 1, line 1: kind Pod of apiVersion v1 is not one of projectcalico.org/v3: remove it`,
		"kind: Pod\nmetadata: {name: a}\n":                                        `unknown kind "Pod": want one of BGPConfiguration,`,
		strings.Replace(head, "kind", "Kind", 1):                                  `document 1, line 1: unknown field Kind, did you mean kind?`,
		strings.Replace(head, "apiVersion", "apiversion", 1):                      `document 1, line 1: unknown field apiversion, did you mean apiVersion?`,
		head + "APIVersion: projectcalico.org/v3\n":                               `unknown field APIVersion, did you mean apiVersion?`,
		"KIND: TierList\napiVersion: projectcalico.org/v3\nitems: []\n":           `unknown field KIND, did you mean kind?`,
		"- {Kind: Tier, apiVersion: projectcalico.org/v3, metadata: {name: a}}\n": `document 1, item 1, line 1: unknown field Kind, did you mean kind?`,
		"- {apiVersion: projectcalico.org/v3, kind: TierList, items: [5]}\n":      `document 1, item 1, item 1, line 1: want an object`,
		"- {apiVersion: projectcalico.org/v3, kind: TierList, items: {}}\n":       `document 1, item 1, line 1: items: want a list, not fields`,
		strings.Repeat("[", 50) + strings.Repeat("]", 49) + "\n":                  `not valid YAML`,
	} {
		objects, err := Decode([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || objects != nil {
			t.Errorf("%s\n%v\nwant %s", text, err, want)
		}
	}
}

// YAML removes the beginning of such text, so a negation would be lost.
func TestTextThatBeginsWithAnExclamationMarkNeedsQuotes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"spec:\n  selector: !has(role)\n":           `line 6: !has(role) begins with !, which YAML reads as a tag: put the whole text in quotes`,
		"spec:\n  selector: !has(role) # comment\n": `line 6: !has(role) begins with !`,
		"spec:\n  selector: ! has(role)\n":          `line 6: ! has(role) begins with !`,
		"spec:\n  selector: ! 'has(role)'\n":        `line 6: ! has(role) begins with !`,
		"spec:\n  selector: &a ! has(role)\n":       `line 6: ! has(role) begins with !`,
		"spec:\n  selector: !\n    has(role)\n":     `line 6: ! has(role) begins with !`,
		"spec:\n  selector: !\n":                    `begins with !`,
		"spec: {selector: ! has(role), order: 1}\n": `line 5: ! has(role) begins with !`,
		"# é\nspec:\n  \"é\": ! has(role)\n":        `line 7: ! has(role) begins with !`,
		"spec:\n  selector: !!has(role)\n":          `line 6: !!has(role) begins with !`,
		"spec:\n  selector: !(a == 'b')\n":          `begins with !`,
		"spec:\n  selector: !has(a) && has(b)\n":    `; in line 6 text begins with !, which YAML reads as a tag: put the whole text in quotes`,
		"spec:\n  selector: !has(a) || has(b)\n":    `; in line 6 text begins with !`,
		"spec: {selector: !has(role)}\n":            `; in line 5 text begins with !`,
		"# x: !a\nspec:\n  order: {\n":              `not valid YAML`,
		"spec:\n  types:\n  - !Ingress\n":           `line 7: !Ingress begins with !`,
	} {
		_, err := Decode([]byte(head + text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %s", text, err, want)
		}
		if strings.HasPrefix(text, "# x") && strings.Contains(err.Error(), "begins with !") {
			t.Errorf("a comment is blamed: %v", err)
		}
	}
	for _, text := range []string{"'!has(role)'", `"! has(role)"`, "a == 'b' && ! has(role)", ">\n    ! has(role)", "|-\n    !has(role)",
		"a == 'b' && !\n    has(role)", "has(role) # ! not this"} {
		objects, err := Decode([]byte(head + "spec:\n  selector: " + text + "\n"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := objects[0].(*GlobalNetworkPolicy).Spec.Selector; strings.Contains(got, "!") == strings.HasPrefix(text, "has") {
			t.Errorf("%s: read as %q", text, got)
		}
	}
}

func TestShapesOfInput(t *testing.T) {
	t.Parallel()
	tier := func(name string) string {
		return fmt.Sprintf(`{"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": %q}, "spec": {"order": 3}}`, name)
	}
	for shape, text := range map[string]string{
		"documents":        tier("a") + "\n---\n# nothing\n---\n--- \n" + tier("b") + "\n",
		"with directives":  "%YAML 1.1\n---\n" + tier("a") + "\n...\n---\n" + tier("b"),
		"after end marks":  "x: &x 1\n"[:0] + "--- \n" + tier("a") + "\n...\n" + tier("b"),
		"list kind":        `{"apiVersion": "projectcalico.org/v3", "kind": "TierList", "metadata": {}, "items": [` + tier("a") + "," + tier("b") + `]}`,
		"list of yaml":     "- " + tier("a") + "\n- " + tier("b") + "\n",
		"lists in a list":  `[{"apiVersion": "projectcalico.org/v3", "kind": "TierList", "metadata": {}, "items": [` + tier("a") + "]}, " + tier("b") + "]",
		"lists of lists":   "- - " + tier("a") + "\n- - - " + tier("b") + "\n",
		"array of json":    "\n[" + tier("a") + ",\n\t" + tier("b") + "]",
		"byte order mark":  "\ufeff" + tier("a") + "\r\n---\r\n" + tier("b"),
		"case of fields":   strings.ReplaceAll(tier("a"), "order", "Order") + "\n---\n" + strings.ReplaceAll(tier("b"), "metadata", "METADATA"),
		"aliases":          "- &t " + tier("a") + "\n- <<: *t\n  metadata: {name: b}\n",
		"json escapes":     strings.ReplaceAll(tier("a"), "projectcalico.org/v3", `projectcalico.org\/v3`) + "\n---\n" + tier("b"),
		"other whole ways": strings.ReplaceAll(tier("a"), "3}", "3.0}") + "\n---\n" + strings.ReplaceAll(strings.ReplaceAll(tier("b"), `"`, ""), "3}", "0x3}"),
	} {
		objects, err := Decode([]byte(text))
		if err != nil || len(objects) != 2 {
			t.Errorf("%s: %d objects, error %v\n%s", shape, len(objects), err, text)
			continue
		}
		for i, name := range []string{"a", "b"} {
			got := objects[i].(*Tier)
			if got.Kind != "Tier" || got.Name != name || got.Spec.Order == nil || *got.Spec.Order != 3 {
				t.Errorf("%s: %+v", shape, got)
			}
		}
	}
	for _, empty := range []string{"", "\n", "# only\n", "---\n---\n", "null\n", "[]"} {
		if objects, err := Decode([]byte(empty)); err != nil || len(objects) != 0 {
			t.Errorf("%q: %v, %v", empty, objects, err)
		}
	}
}

func TestTextStaysAsWritten(t *testing.T) {
	t.Parallel()
	objects, err := Decode([]byte("apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: 12, creationTimestamp: 2026-08-20T10:15:30Z}\n" +
		"spec:\n  labelsToApply: {version: 1.10, on: on, hex: 0x10, truth: true, date: 2026-08-20, nothing: ''}\n"))
	if err != nil {
		t.Fatal(err)
	}
	profile := objects[0].(*Profile)
	want := map[string]string{"version": "1.10", "on": "on", "hex": "0x10", "truth": "true", "date": "2026-08-20", "nothing": ""}
	if diff := cmp.Diff(want, profile.Spec.LabelsToApply); diff != "" || profile.Name != "12" || profile.CreationTimestamp.Year() != 2026 {
		t.Error(diff, profile)
	}
}

func TestDocumentsThatAreTooLargeAreRefused(t *testing.T) {
	t.Parallel()
	var laughs strings.Builder
	laughs.WriteString("a0: &a0 [" + strings.Repeat("x,", 1000) + "]\n")
	for i := range 9 {
		fmt.Fprintf(&laughs, "a%d: &a%d [%s]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d,", i), 10))
	}
	for name, text := range map[string]string{
		"aliases stand":  laughs.String(),
		"stand for":      "a: &a " + strings.Repeat("x", 1<<20) + "\nb: [" + strings.Repeat("*a,", 1000) + "]\n",
		"larger than 10": strings.Repeat("#", 10<<20+1),
		"nested":         strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"deep":           "a: " + strings.Repeat("{a: ", 101) + strings.Repeat("}", 101),
		"itself":         "a: &a [*a]\n",
	} {
		if _, err := Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), name) && !strings.Contains(err.Error(), "nested") {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}

func TestSeedManifestsDecodeValidateAndRoundTrip(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"allow-dns-only.yaml", "block-crypto-mining.yaml"} {
		text, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := Decode(text)
		if err != nil || len(objects) != 1 {
			t.Fatalf("%s: %v", file, err)
		}
		Default(objects[0])
		if err := Validate(objects[0]); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		stored, err := Encode(objects[0])
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeStored("GlobalNetworkPolicy", stored)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(objects[0], again); diff != "" {
			t.Error(diff)
		}
		if twice, _ := Encode(again); string(twice) != string(stored) {
			t.Errorf("%s\n%s", stored, twice)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(head + "spec:\n  ingress:\n  - {action: Allow, protocol: TCP, destination: {ports: [80, '8000:8010', web]}}\n"))
	f.Add([]byte(`[{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"a"},"spec":{"order":1e3}}]`))
	f.Add([]byte("%YAML 1.1\n--- &a\nkind: TierList\nitems: [*a]\n...\n"))
	f.Add([]byte("apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n}\nspec: {<<: {bgp: {asNumber: 1.10}}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := Decode(data)
		if err != nil {
			return
		}
		for _, o := range objects {
			Default(o)
			Warnings(o, "")
			if Validate(o) != nil {
				continue
			}
			text, err := Encode(o)
			if err != nil {
				t.Fatal(err)
			}
			again, err := DecodeStored(o.Type().Kind, text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if twice, _ := Encode(again); string(twice) != string(text) {
				t.Fatalf("%s\n%s", text, twice)
			}
		}
	})
}

// JSON may hold characters that YAML does not allow, with a line that begins a document before it as well as without.
func TestJSONThatIsNoYAML(t *testing.T) {
	t.Parallel()
	text := "{\"apiVersion\": \"projectcalico.org/v3\", \"kind\": \"Tier\", \"metadata\": {\"name\": \"a\", \"annotations\": {\"note\": \"\x7f\"}},\n\"spec\": {}}"
	for _, before := range []string{"", "---\n", "--- ", "kind: TierList\napiVersion: projectcalico.org/v3\nitems: []\n---\n"} {
		objects, err := Decode([]byte(before + text))
		if err != nil || len(objects) != 1 || objects[0].Meta().Annotations["note"] != "\x7f" {
			t.Errorf("%q before it: %v, %v", before, objects, err)
		}
	}
	_, err := Decode([]byte("---\n" + strings.Replace(text, `"spec"`, `"sepc"`, 1)))
	if want := "document 1, Tier a, line 3: unknown field sepc, did you mean spec?"; err == nil || err.Error() != want {
		t.Errorf("%v, not %s", err, want)
	}
}

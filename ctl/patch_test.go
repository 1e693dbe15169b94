package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/margay-project/margay/api"
)

// storedByNewer is a policy as a newer version may have stored it.
const storedByNewer = `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"newer",` +
	`"uid":"6f6f6f6f-0000-4000-8000-000000000000","creationTimestamp":"2026-11-20T16:09:49Z","finalizers":["a"],` +
	`"ownerReferences":[{"apiVersion":"v1","kind":"K","name":"n","uid":"1"}]},"spec":{"phase":"moon","order":3,"tier":"default",` +
	`"selector":"a == 'b'","types":["Ingress"],"ingress":[{"action":"Deny","source":{"processes":["nginx"]}}]}}`

func TestPatchesOfMetadata(t *testing.T) {
	t.Parallel()
	current := func() api.Object {
		o, err := api.DecodeStored("GlobalNetworkPolicy", []byte(storedByNewer))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	p, err := parsePatch("strategic", `{"metadata": {"finalizers": ["b"], "ownerReferences": [{"uid": "1", "name": "m"}], "labels": {"x": "y"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := applyPatch(current(), p)
	if err != nil {
		t.Fatal(err)
	}
	text, err := api.Encode(changed)
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := json.Unmarshal([]byte(storedByNewer), &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	meta := want["metadata"].(map[string]any)
	meta["finalizers"], meta["labels"] = []any{"b", "a"}, map[string]any{"x": "y"}
	meta["ownerReferences"].([]any)[0].(map[string]any)["name"] = "m"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{`{"metadata": {"uid": "x"}}`, `{"metadata": {"creationTimestamp": null}}`, `{"metadata": {"generation": 4}}`} {
		p, err := parsePatch("merge", text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := applyPatch(current(), p); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}

// The result of any patch is refused, or is the same object, can be stored, and is read back as it was stored.
func FuzzPatch(f *testing.F) {
	f.Add("merge", storedByNewer, `{"spec":{"order":null,"ingress":[{"action":"Allow"}]}}`)
	f.Add("json", storedByNewer, `[{"op":"move","from":"/spec/ingress/0","path":"/spec/egress"},{"op":"add","path":"/spec/ingress/-","value":{"action":"Pass"}}]`)
	f.Add("json", storedByNewer, `[{"op":"copy","from":"","path":"/spec/x"},{"op":"test","path":"/a~1b","value":1e400},{"op":"remove","path":"/spec/ingress/-1"}]`)
	f.Add("strategic", storedByNewer, `metadata: {finalizers: [b], $setElementOrder/finalizers: [b, a], ownerReferences: [{uid: "1", $patch: delete}]}`)
	f.Add("strategic", storedByNewer, `spec: {$patch: replace, $deleteFromPrimitiveList/types: [Ingress]}`)
	f.Add("strategic", `{"metadata":{"name":"a"}}`, "a: &a [*a]")
	f.Fuzz(func(t *testing.T, kind, stored, text string) {
		p, err := parsePatch(kind, text)
		if err != nil {
			return
		}
		current, err := api.DecodeStored("GlobalNetworkPolicy", []byte(stored))
		if err != nil {
			return
		}
		changed, err := applyPatch(current, p)
		if err != nil {
			return
		}
		if api.KeyOf(changed) != api.KeyOf(current) || changed.Meta().UID != current.Meta().UID {
			t.Fatalf("%v became %v", current, changed)
		}
		first, err := api.Encode(changed)
		if err != nil {
			t.Fatal(err)
		}
		again, err := api.DecodeStored("GlobalNetworkPolicy", first)
		if err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		second, err := api.Encode(again)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if json.Unmarshal(first, &a) != nil || json.Unmarshal(second, &b) != nil {
			t.Fatalf("not JSON:\n%s\n%s", first, second)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A patch in YAML means what the common library of Kubernetes' tools makes of it.
func TestAPatchInYAMLIsReadAsJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"metadata: {annotations: {until: 2026-11-30}}": `{"metadata":{"annotations":{"until":"2026-11-30"}}}`,
		"metadata: {labels: {80: open}}":               `{"metadata":{"labels":{"80":"open"}}}`,
		"metadata: {labels: {true: open}}":             `{"metadata":{"labels":{"true":"open"}}}`,
		"spec: {natOutgoing: yes, disabled: off}":      `{"spec":{"disabled":false,"natOutgoing":true}}`,
		"spec: {order: 10.5, selector: 'yes'}":         `{"spec":{"order":10.5,"selector":"yes"}}`,
		"spec: {order: null}":                          `{"spec":{"order":null}}`,
		`{"spec": {"order": 1e3}}`:                     `{"spec":{"order":1000}}`,
		"a: &x {b: 1}\nc: {<<: *x}":                    `{"a":{"b":1},"c":{"b":1}}`,
	} {
		got, err := jsonOf(text)
		if err != nil || string(got) != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
		common, err := yaml.YAMLToJSONStrict([]byte(text))
		if err != nil || string(common) != want {
			t.Errorf("%q: the common library says %s, %v", text, common, err)
		}
	}
	if _, err := jsonOf("spec: {order: 1, order: 2}"); err == nil {
		t.Error("a field that is given twice is accepted")
	}
}

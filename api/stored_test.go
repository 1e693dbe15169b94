package api

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/internal/fixture"
)

func TestAnUnreadableValueSaysHowToRepairIt(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"Tier":      "decode stored Tier: not a JSON object; write the object again with margayctl replace, or delete the key",
		"IPAMBlock": "decode stored IPAMBlock: not a JSON object; repair or delete the key",
	} {
		if _, err := DecodeStored(kind, []byte("nothing")); err == nil || err.Error() != want {
			t.Errorf("%v, not %s", err, want)
		}
	}
}

// Values that calicoctl wrote are read and written back unchanged.
func TestStoredObjectsRoundTrip(t *testing.T) {
	t.Parallel()
	read := 0
	for _, e := range fixture.CalicoEtcd() {
		kind := kindOfKey(e.Key)
		if kind == "" {
			continue
		}
		o, err := DecodeStored(kind, e.Value)
		if err != nil {
			t.Errorf("%s: %v", e.Key, err)
			continue
		}
		read++
		if len(o.Meta().Rest) > 0 {
			t.Errorf("%s: unknown fields %v", e.Key, o.Meta().Rest)
		}
		if err := Validate(o); err != nil {
			t.Errorf("%s: %v", e.Key, err)
		}
		again, err := Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(asMap(t, e.Value), asMap(t, again)); diff != "" {
			t.Errorf("%s:\n%s", e.Key, diff)
		}
	}
	if read < 15 {
		t.Errorf("only %d objects were read", read)
	}
}

func kindOfKey(key string) string {
	switch {
	case strings.Contains(key, "/assignment/"):
		return "IPAMBlock"
	case strings.Contains(key, "/ipam/v2/host/"):
		return "BlockAffinity"
	}
	for _, k := range Kinds() {
		if strings.Contains(key, "/"+k.Plural+"/") {
			return k.Name
		}
	}
	return ""
}

func asMap(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return m
}

func TestEncodeIsTheStoredForm(t *testing.T) {
	t.Parallel()
	order := 100.0
	policy := &GlobalNetworkPolicy{
		Metadata: Metadata{Name: "a", ResourceVersion: "7", SelfLink: "x"},
		Spec:     GlobalNetworkPolicySpec{Order: &order, Selector: "a == 'x' && b == '<>'", Ingress: []Rule{{Action: Allow}}},
	}
	want := `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"a"},` +
		`"spec":{"order":100,"ingress":[{"action":"Allow"}],"selector":"a == 'x' \u0026\u0026 b == '\u003c\u003e'"}}`
	if got, err := Encode(policy); err != nil || string(got) != want {
		t.Errorf("%s, error %v, want\n%s", got, err, want)
	}
	if policy.ResourceVersion != "7" || policy.Kind != "" {
		t.Error("Encode changed the object")
	}
	if got, _ := Encode(&Tier{Metadata: Metadata{Name: "t"}}); !bytes.HasSuffix(got, []byte(`"spec":{},"status":{}}`)) {
		t.Errorf("a tier has a status, even when it is empty: %s", got)
	}
	if got, _ := Encode(&BlockAffinity{State: "confirmed"}); string(got) != `{"state":"confirmed","deleted":false}` {
		t.Errorf("%s", got)
	}
}

const newer = `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3",` +
	`"metadata":{"name":"a","creationTimestamp":null,"zone":"b"},` +
	`"spec":{"ingress":[{"action":"Allow","process":"nginx","source":{"nets":["10.0.0.0/8"],"country":["AT"]},"icmp":{"type":8,"id":7}}],` +
	`"selector":"all()","mood":{"good":[1,2.5]}},"extra":"&"}`

func TestUnknownFieldsSurviveReadModifyWrite(t *testing.T) {
	t.Parallel()
	o, err := DecodeStored("GlobalNetworkPolicy", []byte(newer))
	if err != nil {
		t.Fatal(err)
	}
	policy := o.(*GlobalNetworkPolicy)
	policy.Spec.Selector = "has(x)"
	policy.Spec.Ingress = append([]Rule{{Action: Deny}}, policy.Spec.Ingress[0])
	text, err := Encode(policy)
	if err != nil {
		t.Fatal(err)
	}
	want := asMap(t, []byte(newer))
	delete(want["metadata"].(map[string]any), "creationTimestamp")
	spec := want["spec"].(map[string]any)
	spec["selector"] = "has(x)"
	spec["ingress"] = append([]any{map[string]any{"action": "Deny"}}, spec["ingress"].([]any)...)
	got := asMap(t, text)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !bytes.HasPrefix(text, []byte(`{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"a"`)) {
		t.Errorf("the order changed: %s", text)
	}
}

func TestUnknownFieldsOfARuleAreNamed(t *testing.T) {
	t.Parallel()
	o, err := DecodeStored("GlobalNetworkPolicy", []byte(newer))
	if err != nil {
		t.Fatal(err)
	}
	rule := o.(*GlobalNetworkPolicy).Spec.Ingress[0]
	if diff := cmp.Diff([]string{"icmp.id", "process"}, rule.Unknown); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"country"}, rule.Source.Unknown); diff != "" {
		t.Error(diff)
	}
}

func TestABadValueLeavesTheRestReadable(t *testing.T) {
	t.Parallel()
	o, err := DecodeStored("GlobalNetworkPolicy", []byte(`{"metadata":{"name":"a","labels":{"x":"y"},"generation":"no"},`+
		`"spec":{"ingress":[{"action":"Deny","destination":{"ports":["70000"]}}],"tier":"ops","selector":"has(a)"}}`))
	if err == nil || o == nil {
		t.Fatalf("%v, error %v", o, err)
	}
	policy := o.(*GlobalNetworkPolicy)
	if policy.Name != "a" || policy.Spec.Tier != "ops" || policy.Spec.Selector != "has(a)" || policy.Spec.Ingress != nil {
		t.Errorf("%+v", policy)
	}
	for _, text := range []string{"", "null", "[]", "7", `{"kind"`, `{} {}`} {
		if _, err := DecodeStored("Tier", []byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	if o, err := DecodeStored("BlockAffinity", nil); err != nil || o.(*BlockAffinity).State != "" {
		t.Errorf("an empty affinity is not confirmed: %v, %v", o, err)
	}
}

func FuzzDecodeStored(f *testing.F) {
	f.Add("GlobalNetworkPolicy", []byte(newer))
	f.Add("Tier", []byte(`{"spec":{"order":1}}`))
	f.Add("IPAMBlock", []byte(`{"cidr":"10.0.0.0/30","allocations":[0,null],"new":{}}`))
	f.Fuzz(func(t *testing.T, kind string, text []byte) {
		o, err := DecodeStored(kind, text)
		if o == nil {
			return
		}
		_ = Validate(o)
		Warnings(o, "")
		if err != nil {
			return
		}
		if _, err := Encode(o); err != nil {
			t.Fatal(err)
		}
	})
}

// An unknown field anywhere in a stored object survives a read and a write.
func FuzzUnknownFieldsSurvive(f *testing.F) {
	f.Add("GlobalNetworkPolicy", []byte(newer))
	f.Add("Node", []byte(`{"metadata":{"name":"n"},"spec":{"bgp":{"ipv4Address":"10.0.0.1/24"},"orchRefs":[{"orchestrator":"k8s"}]}}`))
	f.Add("GlobalNetworkPolicy", []byte(`{"metadata":{"name":"a"},"spec":{"ingress":[{"action":"Allow","source":{},"http":{"paths":[{}]}}]}}`))
	f.Add("WorkloadEndpoint", []byte(`{"metadata":{},"spec":{"ports":[{"port":1,"protocol":"TCP"}],"ipNATs":[{}]},"status":{}}`))
	f.Add("FelixConfiguration", []byte(`{"metadata":{"name":"default"},"spec":{"failsafeInboundHostPorts":[{"port":1}],"routeTableRanges":[{}]}}`))
	f.Fuzz(func(t *testing.T, kind string, text []byte) {
		if _, err := DecodeStored(kind, text); err != nil {
			return
		}
		var tree any
		if json.Unmarshal(text, &tree) != nil {
			return
		}
		o, _ := New(kind)
		for _, path := range placesFor(tree, reflect.TypeOf(o).Elem(), nil) {
			marked := withMark(tree, path)
			input, err := json.Marshal(marked)
			if err != nil {
				t.Fatal(err)
			}
			read, err := DecodeStored(kind, input)
			if err != nil {
				t.Fatalf("%s: %v", input, err)
			}
			output, err := Encode(read)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(output, []byte(`"zz-newer":"kept"`)) {
				t.Errorf("%s\nlost at %q, written as\n%s", input, path, output)
			}
		}
	})
}

// placesFor returns the paths to the objects in a tree whose fields the type lists.
func placesFor(tree any, typ reflect.Type, path []string) (paths [][]string) {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if isLeaf(typ) && typ != reflect.TypeFor[Rule]() && typ != reflect.TypeFor[EntityRule]() {
		return nil
	}
	switch tree := tree.(type) {
	case map[string]any:
		if typ.Kind() != reflect.Struct {
			return nil
		}
		paths = append(paths, path)
		for name, inner := range tree {
			if f, ok := fieldOf(typ, name); ok && f.name == name {
				paths = append(paths, placesFor(inner, f.typ, append(slices.Clone(path), name))...)
			}
		}
	case []any:
		for i, inner := range tree {
			if typ.Kind() == reflect.Slice {
				paths = append(paths, placesFor(inner, typ.Elem(), append(slices.Clone(path), strconv.Itoa(i)))...)
			}
		}
	}
	return paths
}

// withMark returns a copy of a tree with an unknown field at a path.
func withMark(tree any, path []string) any {
	switch tree := tree.(type) {
	case map[string]any:
		marked := maps.Clone(tree)
		if len(path) == 0 {
			marked["zz-newer"] = "kept"
		} else {
			marked[path[0]] = withMark(tree[path[0]], path[1:])
		}
		return marked
	case []any:
		marked := slices.Clone(tree)
		i, _ := strconv.Atoi(path[0])
		marked[i] = withMark(tree[i], path[1:])
		return marked
	}
	return tree
}

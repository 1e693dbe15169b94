package api

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample returns a JSON value of a type with every field of every part. No part of it is empty.
func sample(t *testing.T, typ reflect.Type) any {
	t.Helper()
	switch typ {
	case reflect.TypeFor[Duration]():
		return "1m30s"
	case reflect.TypeFor[Time]():
		return "2026-08-20T10:15:30Z"
	case reflect.TypeFor[ASNumber]():
		return 4294967295.0
	case reflect.TypeFor[Protocol]():
		return "UDPLite"
	case reflect.TypeFor[Port]():
		return "8000:8010"
	case reflect.TypeFor[DSCP]():
		return "AF11"
	case reflect.TypeFor[json.RawMessage]():
		return []any{map[string]any{"any": "thing"}}
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return sample(t, typ.Elem())
	case reflect.String:
		return "text & <more>"
	case reflect.Bool:
		return true
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return 7.0
	case reflect.Float64:
		return 7.25
	case reflect.Slice:
		return []any{sample(t, typ.Elem()), sample(t, typ.Elem())}
	case reflect.Map:
		return map[string]any{"a": sample(t, typ.Elem()), "b": sample(t, typ.Elem())}
	case reflect.Struct:
		object := map[string]any{}
		for _, f := range fieldsOf(typ) {
			object[f.name] = sample(t, f.typ)
		}
		return object
	}
	t.Fatalf("no sample of a %v: give one, so that the type is tested", typ)
	return nil
}

// writtenKinds returns the kinds that users write manifests of.
func writtenKinds() []Kind {
	return slices.DeleteFunc(Kinds(), func(k Kind) bool { return k.Name == "BlockAffinity" })
}

// sampleObject returns the stored form of an object with every field.
func sampleObject(t *testing.T, k Kind) map[string]any {
	t.Helper()
	object := sample(t, objectType(k.New())).(map[string]any)
	object["kind"], object["apiVersion"] = k.Name, APIVersion
	metadata := object["metadata"].(map[string]any)
	delete(metadata, "resourceVersion") // these two are never stored
	delete(metadata, "selfLink")
	return object
}

func asText(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// readBack stores an object from a manifest, reads it and stores it again. It returns both stored forms.
func readBack(t *testing.T, object map[string]any) (once, twice map[string]any) {
	t.Helper()
	objects, err := Decode(asText(t, object))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%v\n%s", err, asText(t, object))
	}
	text, err := Encode(objects[0])
	if err != nil {
		t.Fatal(err)
	}
	stored, err := DecodeStored(object["kind"].(string), text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Encode(stored)
	if err != nil {
		t.Fatal(err)
	}
	return asMap(t, text), asMap(t, again)
}

// withoutSeals returns a copy of a stored object without seals, which seal_test.go tests.
func withoutSeals(v any) any {
	switch v := v.(type) {
	case []any:
		var items []any
		for _, item := range v {
			items = append(items, withoutSeals(item))
		}
		return items
	case map[string]any:
		object := map[string]any{}
		for name, inner := range v {
			object[name] = withoutSeals(inner)
		}
		text, _ := object["selector"].(string)
		if field, rest, ok := cutSeal(text); ok && object[field] != nil {
			object["selector"] = rest
			if rest == "" {
				delete(object, "selector")
			}
		}
		return object
	}
	return v
}

func TestEveryFieldOfEveryKindReadsBack(t *testing.T) {
	t.Parallel()
	for _, k := range writtenKinds() {
		want := sampleObject(t, k)
		once, twice := readBack(t, want)
		if diff := cmp.Diff(want, withoutSeals(once)); diff != "" {
			t.Errorf("%s, from a manifest:\n%s", k.Name, diff)
		}
		if diff := cmp.Diff(once, twice); diff != "" {
			t.Errorf("%s, from the store:\n%s", k.Name, diff)
		}
	}
}

// A field alone is kept too: none needs another field to be written.
func TestEachFieldAloneReadsBack(t *testing.T) {
	t.Parallel()
	fields := 0
	for _, k := range writtenKinds() {
		for _, path := range paths(sampleObject(t, k), "") {
			switch path {
			case "/kind", "/apiVersion", "/metadata", "/metadata/name": // every object has them
				continue
			}
			fields++
			value := valueAt(sampleObject(t, k), path)
			object := map[string]any{"kind": k.Name, "apiVersion": APIVersion, "metadata": map[string]any{"name": "text"}}
			setAt(object, path, value)
			once, twice := readBack(t, object)
			if diff := cmp.Diff(value, valueAt(withoutSeals(once).(map[string]any), path)); diff != "" {
				t.Errorf("%s %s:\n%s", k.Name, path, diff)
			}
			if diff := cmp.Diff(once, twice); diff != "" {
				t.Errorf("%s %s, from the store:\n%s", k.Name, path, diff)
			}
			if !isField(objectType(k.New()), path) {
				continue
			}
			setAt(object, path, nil)
			none, _ := readBack(t, object)
			deleteAt(object, path)
			without, _ := readBack(t, object)
			if diff := cmp.Diff(without, none); diff != "" {
				t.Errorf("%s %s: null differs from none:\n%s", k.Name, path, diff)
			}
		}
	}
	if fields < 500 {
		t.Errorf("only %d fields", fields)
	}
}

// A field that a newer version adds to any part of an object is written back.
func TestUnknownFieldsOfEveryPartAreKept(t *testing.T) {
	t.Parallel()
	for _, k := range writtenKinds() {
		known := sampleObject(t, k)
		want := withLater(t, known, objectType(k.New()))
		stored, err := DecodeStored(k.Name, asText(t, want))
		if err != nil {
			t.Fatal(err)
		}
		text, err := Encode(stored)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, withoutSeals(asMap(t, text))); diff != "" {
			t.Errorf("%s:\n%s", k.Name, diff)
		}
		if _, err := Decode(asText(t, want)); err == nil || !strings.Contains(err.Error(), "unknown field later") {
			t.Errorf("%s: a manifest may not have unknown fields: %v", k.Name, err)
		}
	}
}

// withLater adds a field to every part of an object.
func withLater(t *testing.T, v any, typ reflect.Type) any {
	t.Helper()
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if isLeaf(typ) {
		if _, list := v.([]any); !list || typ.Kind() != reflect.Slice || typ == reflect.TypeFor[json.RawMessage]() {
			return v
		}
	}
	switch v := v.(type) {
	case []any:
		var items []any
		for _, item := range v {
			items = append(items, withLater(t, item, typ.Elem()))
		}
		return items
	case map[string]any:
		object := map[string]any{}
		for name, inner := range v {
			if typ.Kind() == reflect.Map {
				object[name] = inner
			} else if f, ok := fieldOf(typ, name); ok {
				object[name] = withLater(t, inner, f.typ)
			}
		}
		if typ.Kind() == reflect.Struct {
			object["later"] = map[string]any{"yes": true, "/~": []any{1.5}}
		}
		return object
	}
	return v
}

// paths returns the paths of all fields of an object, including those of its parts. The first item of a list stands for all.
func paths(v any, at string) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			all = append(append(all, at+"/"+name), paths(inner, at+"/"+name)...)
		}
	case []any:
		if _, object := v[0].(map[string]any); object {
			all = paths(v[0], at+"/0")
		}
	}
	return all
}

// isField says whether a path leads to a field, and not to an entry of a map.
func isField(typ reflect.Type, path string) bool {
	for name := range strings.SplitSeq(path[1:], "/") {
		for typ.Kind() == reflect.Pointer || name == "0" && typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if name == "0" {
			continue
		}
		if typ.Kind() != reflect.Struct {
			return false
		}
		f, ok := fieldOf(typ, name)
		if !ok {
			return false
		}
		typ = f.typ
	}
	return true
}

func valueAt(v any, path string) any {
	for name := range strings.SplitSeq(path[1:], "/") {
		switch inner := v.(type) {
		case map[string]any:
			v = inner[name]
		case []any:
			v = inner[0]
		default:
			return nil
		}
	}
	return v
}

// setAt sets a field and creates the parts on the way to it.
func setAt(object map[string]any, path string, value any) {
	names := strings.Split(path[1:], "/")
	for i, name := range names[:len(names)-1] {
		if name == "0" {
			continue
		}
		list := names[i+1] == "0"
		switch inner := object[name].(type) {
		case map[string]any:
			object = inner
		case []any:
			object = inner[0].(map[string]any)
		default:
			made := map[string]any{}
			object[name] = made
			if list {
				object[name] = []any{made}
			}
			object = made
		}
	}
	object[names[len(names)-1]] = value
}

func deleteAt(object map[string]any, path string) {
	last := strings.LastIndex(path, "/")
	part := any(object)
	if last > 0 {
		part = valueAt(object, path[:last])
	}
	if list, ok := part.([]any); ok {
		part = list[0]
	}
	delete(part.(map[string]any), path[last+1:])
}

// Every notation of a value is read as that value, and is stored as calicoctl stores it.
func TestWaysToWriteAValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of            reflect.Type
		written, want string
	}{
		{reflect.TypeFor[Protocol](), `6`, `6`},
		{reflect.TypeFor[Protocol](), `"6"`, `6`},
		{reflect.TypeFor[Protocol](), `"TCP"`, `"TCP"`},
		{reflect.TypeFor[Protocol](), `"tcp"`, `"tcp"`},
		{reflect.TypeFor[Port](), `80`, `80`},
		{reflect.TypeFor[Port](), `"80"`, `80`},
		{reflect.TypeFor[Port](), `"80:80"`, `80`},
		{reflect.TypeFor[Port](), `"0080:90"`, `"80:90"`},
		{reflect.TypeFor[Port](), `"http"`, `"http"`},
		{reflect.TypeFor[ASNumber](), `64512`, `64512`},
		{reflect.TypeFor[ASNumber](), `"64512"`, `64512`},
		{reflect.TypeFor[ASNumber](), `"1.10"`, `65546`},
		{reflect.TypeFor[Duration](), `"90s"`, `"1m30s"`},
		{reflect.TypeFor[Duration](), `"120m"`, `"2h0m0s"`},
		{reflect.TypeFor[Duration](), `"0"`, `"0s"`},
		{reflect.TypeFor[Duration](), `"1500ms"`, `"1.5s"`},
		{reflect.TypeFor[DSCP](), `46`, `46`},
		{reflect.TypeFor[DSCP](), `"46"`, `46`},
		{reflect.TypeFor[DSCP](), `"EF"`, `"EF"`},
		{reflect.TypeFor[Time](), `"2026-08-20T12:15:30.75+02:00"`, `"2026-08-20T10:15:30Z"`},
		{reflect.TypeFor[Time](), `null`, `null`},
	} {
		v := reflect.New(c.of)
		if err := json.Unmarshal([]byte(c.written), v.Interface()); err != nil {
			t.Errorf("%v %s: %v", c.of, c.written, err)
			continue
		}
		if got := string(asText(t, v.Elem().Interface())); got != c.want {
			t.Errorf("%v %s is written as %s, want %s", c.of, c.written, got, c.want)
		}
	}
}

// An empty field is left out or kept as in calicoctl.
func TestEmptyFieldsAreLeftOutOrKept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, written, want string }{
		{"GlobalNetworkPolicy", `{"order":0,"ingress":[],"types":[],"selector":"","doNotTrack":false}`, `{"order":0}`},
		{"GlobalNetworkPolicy", `{"ingress":[{"action":"Allow","source":{},"destination":{"nets":[]}}]}`, `{"ingress":[{"action":"Allow"}]}`},
		{"GlobalNetworkPolicy", `{"ingress":[{"action":"Allow","icmp":{},"http":{},"metadata":{}}]}`, `{"ingress":[{"action":"Allow","http":{},"icmp":{},"metadata":{}}]}`},
		{"Tier", `{"order":null,"defaultAction":null}`, `{}`},
		{"Profile", `{"ingress":[],"labelsToApply":{}}`, `{}`},
		{"GlobalNetworkSet", `{"nets":[]}`, `{}`},
		{"IPPool", `{"cidr":"","disabled":false,"blockSize":0}`, `{"cidr":""}`},
		{"WorkloadEndpoint", `{"ports":[{"name":"a","protocol":"TCP","port":1}]}`,
			`{"ports":[{"hostIP":"","hostPort":0,"name":"a","port":1,"protocol":"TCP"}]}`},
		{"Node", `{"bgp":{"asNumber":0},"wireguard":{},"addresses":[]}`, `{"bgp":{"asNumber":0},"wireguard":{}}`},
		{"BGPPeer", `{"asNumber":0,"localASNumber":0,"ttlSecurity":0,"password":{"secretKeyRef":{"name":"a"}},"keepOriginalNextHop":false}`,
			`{"localASNumber":0,"password":{"secretKeyRef":{"key":"","name":"a"}},"ttlSecurity":0}`},
		{"BGPConfiguration", `{"nodeToNodeMeshEnabled":false,"listenPort":0,"communities":[]}`, `{"nodeToNodeMeshEnabled":false}`},
		{"FelixConfiguration", `{"failsafeInboundHostPorts":[],"kubeNodePortRanges":[],"bpfEnabled":false,"healthPort":0,"interfacePrefix":"","healthHost":""}`,
			`{"bpfEnabled":false,"bpfLogLevel":"","failsafeInboundHostPorts":[],"healthHost":"","healthPort":0,"kubeNodePortRanges":[]}`},
		{"FelixConfiguration", `{"failsafeInboundHostPorts":[{"port":22}],"bpfLogFilters":{},"healthTimeoutOverrides":[]}`,
			`{"bpfLogFilters":{},"bpfLogLevel":"","failsafeInboundHostPorts":[{"port":22}]}`},
		{"IPAMConfiguration", `{"strictAffinity":false,"maxBlocksPerHost":0,"autoAllocateBlocks":false}`,
			`{"autoAllocateBlocks":false,"maxBlocksPerHost":0,"strictAffinity":false}`},
	} {
		object := map[string]any{"kind": c.kind, "apiVersion": APIVersion, "metadata": map[string]any{"name": "a"}, "spec": json.RawMessage(c.written)}
		once, twice := readBack(t, object)
		if got := string(asText(t, once["spec"])); got != c.want {
			t.Errorf("%s %s is stored as %s, want %s", c.kind, c.written, got, c.want)
		}
		if diff := cmp.Diff(once, twice); diff != "" {
			t.Errorf("%s %s:\n%s", c.kind, c.written, diff)
		}
	}
}

// A manifest without fields is stored with the fields that calicoctl stores for it.
func TestDefaultsAreStoredAsCalicoctlStoresThem(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"FelixConfiguration": `"spec":{"nftablesMode":"Auto","nftablesFlowTableOffload":"Disabled","bpfLogLevel":"",` +
			`"bpfConnectTimeLoadBalancing":"TCP","bpfHostNetworkedNATWithoutCTLB":"Enabled","floatingIPs":"Disabled"}`,
		"IPAMConfiguration":            `"spec":{"strictAffinity":false,"maxBlocksPerHost":0,"autoAllocateBlocks":false}`,
		"KubeControllersConfiguration": `"spec":{"healthChecks":"Enabled","prometheusMetricsPort":9094,"controllers":{}},"status":{}`,
		"CalicoNodeStatus": `"spec":{},"status":{"lastUpdated":null,"agent":{"birdV4":{},"birdV6":{}},"bgp":{"numberEstablishedV4":0,` +
			`"numberNotEstablishedV4":0,"numberEstablishedV6":0,"numberNotEstablishedV6":0},"routes":{}}`,
		"Tier":    `"spec":{"order":1000000,"defaultAction":"Deny"},"status":{}`,
		"Node":    `"spec":{},"status":{}`,
		"IPPool":  `"spec":{"cidr":"","vxlanMode":"Never","ipipMode":"Never","nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"}`,
		"Profile": `"spec":{}`,
	} {
		objects, err := Decode([]byte("apiVersion: projectcalico.org/v3\nkind: " + kind + "\nmetadata: {name: default}\n"))
		if err != nil {
			t.Fatal(err)
		}
		Default(objects[0])
		stored, err := Encode(objects[0])
		if err != nil {
			t.Fatal(err)
		}
		want := `{"kind":"` + kind + `","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},` + want + `}`
		var got, expected any
		if json.Unmarshal(stored, &got) != nil || json.Unmarshal([]byte(want), &expected) != nil {
			t.Fatalf("%s: not JSON: %s or %s", kind, stored, want)
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("%s is stored as %s, want %s\n%s", kind, stored, want, diff)
		}
	}
}

func TestKubeControllersConfigurationIsKept(t *testing.T) {
	t.Parallel()
	spec := `{"controllers":{"migration":{"policyNameMigrator":"Disabled"},"node":{"hostEndpoint":{"templates":[` +
		`{"annotations":{"note":"kept"},"generateName":"vm","interfacePattern":"eth.*","labels":{"a":"b"}}]},"leakGracePeriod":"5m0s"}},` +
		`"healthChecks":"Disabled","prometheusMetricsPort":0}`
	objects, err := Decode([]byte(`{"apiVersion":"projectcalico.org/v3","kind":"KubeControllersConfiguration","metadata":{"name":"default"},"spec":` + spec + `}`))
	if err != nil {
		t.Fatal(err)
	}
	Default(objects[0])
	if err := Validate(objects[0]); err != nil {
		t.Fatal(err)
	}
	var got, want any
	if json.Unmarshal(asText(t, objects[0].(*KubeControllersConfiguration).Spec), &got) != nil || json.Unmarshal([]byte(spec), &want) != nil {
		t.Fatal("not JSON")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

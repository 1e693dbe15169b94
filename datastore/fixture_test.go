package datastore

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv/kvtest"
	"github.com/margay-project/margay/internal/fixture"
	"sigs.k8s.io/yaml"
)

// written is the datastore that calicoctl wrote.
func written(t *testing.T) []Entry {
	t.Helper()
	var entries []Entry
	for i, pair := range fixture.CalicoEtcd() {
		var compact, escaped bytes.Buffer
		if err := json.Compact(&compact, pair.Value); err != nil {
			t.Fatal(err)
		}
		json.HTMLEscape(&escaped, compact.Bytes())
		entries = append(entries, Entry{Key: pair.Key, Value: escaped.Bytes(), Revision: int64(i + 2)})
	}
	return entries
}

func TestEveryStoredValueIsWrittenBackByteForByte(t *testing.T) {
	count := 0
	for _, entry := range written(t) {
		key, known, ok := parseKey(entry.Key)
		if !ok || !known {
			continue
		}
		count++
		if got := ResourceKey(key); got != entry.Key {
			t.Errorf("%v is stored under %s, want %s", key, got, entry.Key)
		}
		o, problem := read(key, entry)
		if problem != "" {
			t.Errorf("%v: %s", key, problem)
			continue
		}
		value, err := encode(o)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := ordered(t, key, value), ordered(t, key, entry.Value); got != want {
			t.Errorf("%v:\n got %s\nwant %s", key, got, want)
		}
	}
	if count != 26 {
		t.Errorf("the fixture has %d objects of known kinds, want 26", count)
	}
}

// ordered is a value with its fields in the order of their names, where the order differs from calicoctl's, and protocols in
// lower case, where defaults write them so. Both mean nothing to readers.
func ordered(t *testing.T, key api.Key, value []byte) string {
	t.Helper()
	if key.Kind != "FelixConfiguration" {
		return string(value)
	}
	var parsed map[string]any
	if err := json.Unmarshal(value, &parsed); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.Marshal(parsed)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(`"TCP"`, `"tcp"`, `"UDP"`, `"udp"`).Replace(string(sorted))
}

var variable = regexp.MustCompile(`"(uid|creationTimestamp|clusterGUID)":"[^"]*"`)

func TestManifestsBecomeTheKeysAndValuesOfCalicoctl(t *testing.T) {
	want := map[string]string{}
	store := kvtest.NewMemory()
	for _, entry := range written(t) {
		if key, known, ok := parseKey(entry.Key); ok && known {
			want[entry.Key] = variable.ReplaceAllString(ordered(t, key, entry.Value), `"$1":""`)
		} else {
			raw(t, store, entry.Key, string(entry.Value)) // what others wrote, which references need
		}
	}
	ctx, s := testContext(t), New(store)
	if err := s.EnsureInitialized(ctx); err != nil {
		t.Fatal(err)
	}
	for _, o := range manifests(t) {
		if _, err := s.Create(ctx, o); err != nil {
			t.Errorf("%v: %v", api.KeyOf(o), err)
		}
	}
	got := map[string]string{}
	for _, span := range listedSpans {
		page, err := store.Range(ctx, span, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range page.Entries {
			if key, known, _ := parseKey(entry.Key); known {
				got[entry.Key] = variable.ReplaceAllString(ordered(t, key, entry.Value), `"$1":""`)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-calicoctl +ours\n%s", diff)
	}
}

func manifests(t *testing.T) (objects []api.Object) {
	t.Helper()
	for _, document := range bytes.Split(fixture.CalicoManifests(), []byte("\n---\n")) {
		object, err := yaml.YAMLToJSON(document)
		if err != nil {
			t.Fatal(err)
		}
		var kind api.TypeMeta
		if err := json.Unmarshal(object, &kind); err != nil {
			t.Fatal(err)
		}
		o, ok := api.New(kind.Kind)
		if !ok {
			continue
		}
		if err := json.Unmarshal(object, o); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, o)
	}
	return objects
}

func TestKeysThatHoldNoObjectAreLeftAlone(t *testing.T) {
	for _, key := range []string{
		"/calico/ipam/v2/config",
		"/calico/ipam/v2/handle/h",
		"/calico/ipam/v2/host/n1",
		"/calico/ipam/v2/host/n1/ipv4/block/",
		"/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0",
		"/calico/ipam/v2/host/n1/ipv6/block/10.0.0.0-26",
		"/calico/ipam/v2/assignment/ipv4/block/10.0.0.1-26",
		"/calico/resources/v3/projectcalico.org/",
		"/calico/resources/v3/projectcalico.org/tiers",
		"/calico/resources/v3/projectcalico.org/tiers/",
		"/calico/resources/v3/projectcalico.org/tiers/a/b",
		"/calico/resources/v3/projectcalico.org/workloadendpoints/a",
		"/calico/resources/v3/projectcalico.org/workloadendpoints/a/b/c",
		"/calico/felix/v2/no-region/host/n1/status",
	} {
		if parsed, _, ok := parseKey(key); ok {
			t.Errorf("%s is taken for %v", key, parsed)
		}
	}
}

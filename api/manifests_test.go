package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/internal/fixture"
)

// Decode, Default and Encode turn manifests into the values that calicoctl stored for them, except for the fields that only the
// store adds.
func TestManifestsBecomeWhatIsStored(t *testing.T) {
	t.Parallel()
	objects, err := Decode(fixture.CalicoManifests())
	if err != nil {
		t.Fatal(err)
	}
	stored := storedByKey(t)
	for _, o := range objects {
		Default(o)
		if err := Validate(o); err != nil {
			t.Errorf("%s: %v", KeyOf(o), err)
		}
		value, err := Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		want, ok := stored[KeyOf(o)]
		if !ok {
			t.Errorf("%s was not stored", KeyOf(o))
			continue
		}
		metadata := want["metadata"].(map[string]any)
		delete(metadata, "uid")
		delete(metadata, "creationTimestamp")
		if a, ok := metadata["annotations"].(map[string]any); ok { // the datastore keeps the name of a policy there
			if delete(a, "projectcalico.org/metadata"); len(a) == 0 {
				delete(metadata, "annotations")
			}
		}
		if diff := cmp.Diff(want, asMap(t, value)); diff != "" {
			t.Errorf("%s:\n%s", KeyOf(o), diff)
		}
	}
	if len(objects) < 12 {
		t.Errorf("only %d objects", len(objects))
	}
}

func storedByKey(t *testing.T) map[Key]map[string]any {
	t.Helper()
	stored := map[Key]map[string]any{}
	for _, e := range fixture.CalicoEtcd() {
		if !strings.Contains(e.Key, "/resources/v3/") {
			continue
		}
		var head struct {
			Kind     string
			Metadata Metadata
		}
		if err := json.Unmarshal(e.Value, &head); err != nil {
			t.Fatal(err)
		}
		stored[Key{head.Kind, head.Metadata.Namespace, head.Metadata.Name}] = asMap(t, e.Value)
	}
	return stored
}

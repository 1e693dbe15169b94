package main

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The results are those of Kubernetes' own implementation.
func TestStrategicPatchesMergeAsInKubernetes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ original, patch, want string }{
		{`{"spec":{"types":["a","b"],"order":1}}`, `{"spec":{"types":["c"]}}`, `{"spec":{"order":1,"types":["c"]}}`},
		{`{"spec":{"types":["a","b"],"order":1}}`, `{"spec":{"types":null,"order":null}}`, `{"spec":{}}`},
		{`{"spec":{"hints":{"a":"1","b":"2"},"order":1}}`, `{"spec":{"hints":{"$patch":"replace","c":"3"}}}`, `{"spec":{"hints":{"c":"3"},"order":1}}`},
		{`{"spec":{"hints":{"a":"1"},"order":1}}`, `{"spec":{"hints":{"$patch":"delete"}}}`, `{"spec":{"hints":{},"order":1}}`},
		{`{"spec":{"hints":{"a":"1"},"order":1}}`, `{"spec":{"$patch":"delete"}}`, `{"spec":{}}`},
		{`{"spec":{"hints":{"a":"1"},"order":1}}`, `{"$patch":"replace","spec":{"order":2}}`, `{"spec":{"order":2}}`},
		{`{"metadata":{"finalizers":["a","b"]}}`, `{"metadata":{"finalizers":["c","a"]}}`, `{"metadata":{"finalizers":["c","a","b"]}}`},
		{`{"metadata":{"finalizers":["a","b","c"]}}`, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["b"]}}`, `{"metadata":{"finalizers":["a","c"]}}`},
		{`{"metadata":{"finalizers":["a","b","c"]}}`, `{"metadata":{"$setElementOrder/finalizers":["c","a","d"],"finalizers":["d"]}}`, `{"metadata":{"finalizers":["b","c","a","d"]}}`},
		{`{"metadata":{"finalizers":["a","b","c","e"]}}`, `{"metadata":{"$setElementOrder/finalizers":["d","c","a"],"finalizers":["d"],"$deleteFromPrimitiveList/finalizers":["b"]}}`, `{"metadata":{"finalizers":["d","c","a","e"]}}`},
		{`{"metadata":{"finalizers":["a"]}}`, `{"metadata":{"finalizers":[]}}`, `{"metadata":{"finalizers":["a"]}}`},
		{`{"metadata":{"finalizers":["a"]}}`, `{"metadata":{"finalizers":null}}`, `{"metadata":{}}`},
		{`{"metadata":{"ownerReferences":[{"uid":"1","name":"a","kind":"K"},{"uid":"2","name":"b"}]}}`, `{"metadata":{"ownerReferences":[{"uid":"2","name":"c"},{"uid":"3","name":"d"}]}}`, `{"metadata":{"ownerReferences":[{"kind":"K","name":"a","uid":"1"},{"name":"c","uid":"2"},{"name":"d","uid":"3"}]}}`},
		{`{"metadata":{"ownerReferences":[{"uid":"1","name":"a"},{"uid":"2","name":"b"}]}}`, `{"metadata":{"ownerReferences":[{"uid":"1","$patch":"delete"}]}}`, `{"metadata":{"ownerReferences":[{"name":"b","uid":"2"}]}}`},
		{`{"metadata":{"ownerReferences":[{"uid":"1","name":"a"},{"uid":"2","name":"b"}]}}`, `{"metadata":{"ownerReferences":[{"$patch":"replace"},{"uid":"4","name":"z"}]}}`, `{"metadata":{"ownerReferences":[{"name":"z","uid":"4"}]}}`},
		{`{"metadata":{"ownerReferences":[{"uid":"1","name":"a"},{"uid":"2"}]}}`, `{"metadata":{"$setElementOrder/ownerReferences":[{"uid":"2"},{"uid":"1"}]}}`, `{"metadata":{"ownerReferences":[{"uid":"2"},{"name":"a","uid":"1"}]}}`},
		{`{"metadata":{"ownerReferences":[{"uid":"1","name":"a"},{"uid":"2"}]}}`, `{"metadata":{"ownerReferences":[{"uid":"1","name":null}]}}`, `{"metadata":{"ownerReferences":[{"uid":"1"},{"uid":"2"}]}}`},
		{`{"spec":{"ingress":[{"action":"Allow"},{"action":"Deny"}]}}`, `{"spec":{"ingress":[{"action":"Log"}]}}`, `{"spec":{"ingress":[{"action":"Log"}]}}`},
		{`{"spec":{"types":["a","b"]}}`, `{"spec":{"$setElementOrder/types":["b","a"]}}`, `{"spec":{"types":["b","a"]}}`},
		{`{"spec":{"types":["a","b"]}}`, `{"spec":{"$deleteFromPrimitiveList/types":["b"]}}`, `{"spec":{"types":["a"]}}`},
		{`{"spec":{"order":1,"selector":"x","hints":{"a":"1"}}}`, `{"spec":{"$retainKeys":["order"],"order":2}}`, `{"spec":{"order":2}}`},
		{`{"metadata":{"labels":{"a":"1","b":"2"}}}`, `{"metadata":{"labels":{"$retainKeys":["b","c"],"c":"3"}}}`, `{"metadata":{"labels":{"b":"2","c":"3"}}}`},
		{`{"metadata":{"labels":{"a":"1","b":"2"}}}`, `{"metadata":{"labels":{"a":null,"z":null}}}`, `{"metadata":{"labels":{"b":"2"}}}`},
		{`{"metadata":{}}`, `{"metadata":{"labels":{"a":null,"b":"1"}}}`, `{"metadata":{"labels":{"b":"1"}}}`},
		{`{"spec":{"ingress":[{"action":"Allow"}]}}`, `{"spec":{"ingress":[{"action":"Log","source":null}]}}`, `{"spec":{"ingress":[{"action":"Log","source":null}]}}`},
		{`{"spec":{"bogus":1}}`, `{"spec":{"bogus":{"a":1}}}`, `{"spec":{"bogus":{"a":1}}}`},
		{`{"spec":{}}`, `{"spec":{"ordre":1}}`, `{"spec":{"ordre":1}}`},
		{`{"spec":{}}`, `{"spec":{"bogus":{"a":1}}}`, `{"spec":{"bogus":{"a":1}}}`},
		{`{"spec":{"order":1}}`, `{"spec":{"order":{"a":1}}}`, `{"spec":{"order":{"a":1}}}`},
		{`{"spec":{"order":1}}`, `{"spec":5}`, `{"spec":5}`},
		{`{"spec":{"types":["a"]}}`, `{"spec":{"types":"b"}}`, `{"spec":{"types":"b"}}`},
		{`{"metadata":{"ownerReferences":[{"uid":"1","name":"a"},{"uid":"2"},{"uid":"3"}]}}`, `{"metadata":{"$setElementOrder/ownerReferences":[{"uid":"9"},{"uid":"2"},{"uid":"1"}],"ownerReferences":[{"uid":"9"}]}}`, `{"metadata":{"ownerReferences":[{"uid":"9"},{"uid":"2"},{"name":"a","uid":"1"},{"uid":"3"}]}}`},
	} {
		got, err := strategicMerge([]byte(c.original), []byte(c.patch))
		if err != nil || string(got) != c.want {
			t.Errorf("%s\nwith %s\nis   %s, error %v\nwant %s", c.original, c.patch, got, err, c.want)
		}
	}
}

func TestStrategicPatchesThatMeanNothing(t *testing.T) {
	t.Parallel()
	original := `{"metadata":{"finalizers":["a"],"ownerReferences":[{"uid":"1"}]},"spec":{"ingress":[{"action":"Allow"}]}}`
	for patch, want := range map[string]string{
		`{"$patch":"bogus"}`:                                                    `the object: $patch is bogus: want replace or delete`,
		`{"spec":{"$patch":"merge"}}`:                                           `spec: $patch is merge: want replace or delete`,
		`{"spec":{"$retainKeys":["order"],"selector":"x"}}`:                     `spec: $retainKeys does not name selector, which the patch sets`,
		`{"spec":{"$retainKeys":"order"}}`:                                      `spec: $retainKeys: want a list of fields`,
		`{"metadata":{"ownerReferences":[{"name":"z"}]}}`:                       `metadata.ownerReferences: {"name":"z"}: want elements with uid`,
		`{"metadata":{"ownerReferences":["z"]}}`:                                `metadata.ownerReferences: "z": want elements with uid`,
		`{"metadata":{"finalizers":[{"a":1}]}}`:                                 `metadata.finalizers: {"a":1}: want elements with plain text`,
		`{"metadata":{"finalizers":["d"],"$setElementOrder/finalizers":["a"]}}`: `metadata.finalizers: $setElementOrder does not name "d", which the patch sets`,
		`{"metadata":{"$setElementOrder/finalizers":"a"}}`:                      `metadata.finalizers: $setElementOrder and $deleteFromPrimitiveList want a list of elements`,
		`{"spec":{"ingress":[{"$patch":"delete","action":"Allow"}]}}`:           `spec.ingress: the elements of this list have no names: give the whole list, or a list of operations with -t json`,
	} {
		if got, err := strategicMerge([]byte(original), []byte(patch)); err == nil || err.Error() != want {
			t.Errorf("%s: %s, error %v\nwant %s", patch, got, err, want)
		}
	}
}

// Without directives and merged lists a strategic merge is a merge.
func TestPlainStrategicPatchesAreMergePatches(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	for range 2000 {
		original, patch := randomFields(r, 3), randomFields(r, 3)
		a, _ := json.Marshal(original)
		b, _ := json.Marshal(patch)
		merge, err := parsePatch("merge", string(b))
		if err != nil {
			t.Fatal(err)
		}
		want, err := merge(a)
		if err != nil {
			t.Fatal(err)
		}
		got, err := strategicMerge(a, b)
		if err != nil {
			t.Fatal(err)
		}
		var x, y any
		if json.Unmarshal(want, &x) != nil || json.Unmarshal(got, &y) != nil {
			t.Fatalf("%s\n%s", want, got)
		}
		if diff := cmp.Diff(x, y); diff != "" {
			t.Fatalf("%s with %s:\n%s", a, b, diff)
		}
	}
}

func randomFields(r *rand.Rand, depth int) map[string]any {
	fields := map[string]any{}
	for _, name := range strings.Split("abcd", "") {
		switch r.IntN(6) {
		case 0:
			fields[name] = r.IntN(3)
		case 1:
			fields[name] = []any{"x", r.IntN(3)}
		case 2:
			fields[name] = nil
		case 3:
			if depth > 0 {
				fields[name] = randomFields(r, depth-1)
			}
		}
	}
	return fields
}

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

package calc

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/margay-project/margay/api"
)

// No object makes Graph panic, also when it is added and deleted again, and Graph and Compute agree on its meaning.
func FuzzObjects(f *testing.F) {
	for _, file := range []string{"policy", "host", "network", "invalid"} {
		for _, u := range readObjects(f, "testdata/states/"+file+".yaml") {
			if text, err := json.Marshal(u.Object); err == nil && u.Object != nil {
				f.Add(u.Key.Kind, text, u.Invalid)
			}
		}
	}
	base := readObjects(f, "testdata/states/policy.yaml")
	facts := Facts{Addresses: []netip.Addr{netip.MustParseAddr("10.70.0.1")}}
	f.Fuzz(func(t *testing.T, kind string, text []byte, invalid string) {
		object, known := api.New(kind)
		if !known {
			return
		}
		if err := json.Unmarshal(text, object); err != nil && invalid == "" {
			invalid = err.Error()
		}
		u := api.Update{Key: api.Key{Kind: kind, Name: object.Meta().Name, Namespace: object.Meta().Namespace}, Object: object, Invalid: invalid}
		if kind == api.KindIPAMBlock || kind == api.KindBlockAffinity {
			u.Key.Namespace, u.Key.Name = "", "10.65.0.0-26"
			if kind == api.KindBlockAffinity {
				u.Key.Namespace = "n1"
			}
		}
		g, folded := New("n1", facts), &State{}
		for _, b := range base {
			g.Update(b)
		}
		folded.Fold(g.Flush())
		without := folded.Clone()
		g.Update(u)
		folded.Fold(g.Flush())
		want := Compute("n1", facts, append(base[:len(base):len(base)], u))
		if diff := differences(want, folded, false); diff != "" {
			t.Fatalf("Compute (-) and Graph (+) differ:\n%s", diff)
		}
		_ = folded.Text()
		if _, err := json.Marshal(folded); err != nil {
			t.Fatal(err)
		}
		for _, b := range base {
			if b.Key == u.Key {
				return // it replaced one of them
			}
		}
		g.Update(api.Update{Key: u.Key})
		folded.Fold(g.Flush())
		if diff := differences(without, folded, false); diff != "" {
			t.Fatalf("after its deletion something is left (+) or missing (-):\n%s", diff)
		}
	})
}

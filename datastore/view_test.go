package datastore

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/api"
)

// told is the state of a consumer that has folded updates: one line for each object.
type told map[api.Key]string

func (k told) fold(t testing.TB, updates []api.Update) {
	t.Helper()
	for _, u := range updates {
		line := describeUpdate(u)
		if line == "" {
			if _, known := k[u.Key]; !known {
				t.Errorf("%v is deleted and was never there", u.Key)
			}
			delete(k, u.Key)
			continue
		}
		k[u.Key] = line
	}
}

func describeUpdate(u api.Update) string {
	switch o := u.Object.(type) {
	case nil:
		return u.Invalid
	case *api.GlobalNetworkPolicy:
		return fmt.Sprintf("%s %s %s", o.Name, o.Spec.Selector, u.Invalid)
	default:
		return fmt.Sprintf("%v %s", api.KeyOf(o), u.Invalid)
	}
}

// difference returns the updates that bring a consumer from one state of the datastore to another.
func difference(v *view, now []Entry) []api.Update {
	var updates []api.Update
	v.begin(false)
	for _, entry := range now {
		update, _ := v.listed(entry)
		updates = append(updates, update...)
	}
	return append(updates, v.sweep()...)
}

func entry(name, selector string, revision int64) Entry {
	value := `{"metadata":{"annotations":{}},"spec":{"selector":"` + selector + `","types":["Ingress"]}}`
	return Entry{Key: policies + name, Value: []byte(value), Revision: revision, Created: 1}
}

func lines(updates []api.Update) string {
	var out []string
	for _, u := range updates {
		out = append(out, strings.TrimSpace(u.Key.Name+": "+describeUpdate(u)))
	}
	return strings.Join(out, "\n")
}

func TestDifference(t *testing.T) {
	const bad = "this is no selector ("
	for _, c := range []struct {
		name     string
		old, now []Entry
		want     string
	}{
		{"nothing changed", []Entry{entry("a", "all()", 2)}, []Entry{entry("a", "all()", 2)}, ""},
		{"added", nil, []Entry{entry("a", "all()", 2)}, "a: a all()"},
		{"changed", []Entry{entry("a", "all()", 2)}, []Entry{entry("a", "has(x)", 3)}, "a: a has(x)"},
		{"deleted", []Entry{entry("a", "all()", 2), entry("b", "all()", 2)}, []Entry{entry("b", "all()", 2)}, "a:"},
		{"deleted and made anew", []Entry{entry("a", "all()", 2)}, []Entry{entry("a", "all()", 5)}, "a: a all()"},
		{"valid, then invalid: the valid version stays", []Entry{entry("a", "all()", 2)}, []Entry{entry("a", bad, 3)}, ""},
		{"under the old name", nil, []Entry{entry("default.a", "all()", 2)}, "a: a all()"},
		{"the new name hides the old one", []Entry{entry("default.a", "all()", 2)},
			[]Entry{entry("a", "has(x)", 3), entry("default.a", "all()", 2)}, "a: a has(x)"},
		{"the old name stays when the new one goes", []Entry{entry("a", "has(x)", 3), entry("default.a", "all()", 2)},
			[]Entry{entry("default.a", "all()", 2)}, "a: a all()"},
		{"the hidden name goes unnoticed", []Entry{entry("a", "has(x)", 3), entry("default.a", "all()", 2)},
			[]Entry{entry("a", "has(x)", 3)}, ""},
		{"the hidden name changes unnoticed", []Entry{entry("a", "has(x)", 3), entry("default.a", "all()", 2)},
			[]Entry{entry("a", "has(x)", 3), entry("default.a", "has(y)", 4)}, ""},
		{"not ours", nil, []Entry{{Key: "/calico/felix/v2/x", Value: []byte("{}")}, {Key: "/calico/ipam/v2/handle/h", Value: []byte("{}")}}, ""},
		{"a kind of another version, once", []Entry{{Key: resourceRoot + "livemigrations/a/p", Revision: 2}},
			[]Entry{{Key: resourceRoot + "livemigrations/a/p", Revision: 3}, {Key: resourceRoot + "livemigrations/a/q", Revision: 3}},
			"q: kind LiveMigration is not enforced by this version"},
		{"a kind of another version goes", []Entry{{Key: resourceRoot + "livemigrations/a/p", Revision: 2}}, nil, "p:"},
		{"a kind that nobody knows", nil, []Entry{{Key: resourceRoot + "widgets/p", Revision: 2}}, "p: kind widgets is not enforced by this version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newView()
			difference(v, c.old)
			if got := lines(difference(v, c.now)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestInvalidObjectsCloseAndAreNamed(t *testing.T) {
	v := newView()
	bad := entry("a", "this is no selector (", 2)
	updates := v.put(bad)
	if len(updates) != 1 || updates[0].Invalid == "" || updates[0].Object == nil || v.invalid[updates[0].Key] == "" || !v.changed {
		t.Fatalf("never valid: %+v, invalid %v", updates, v.invalid)
	}
	v.put(entry("a", "all()", 3))
	if len(v.invalid) != 0 {
		t.Errorf("repaired, but still invalid: %v", v.invalid)
	}
	half := bad
	half.Value, half.Revision = []byte(`{"metadata":{"na`), 4
	if updates := v.put(half); len(updates) != 0 || len(v.invalid) != 1 {
		t.Errorf("half written: %+v, invalid %v", updates, v.invalid)
	}
	if updates := v.remove(half.Key); lines(updates) != "a:" || len(v.invalid) != 0 {
		t.Errorf("deleted: %+v, invalid %v", updates, v.invalid)
	}
	if updates := v.put(half); len(updates) != 1 || updates[0].Invalid == "" {
		t.Errorf("after the deletion there is no valid version: %+v", updates)
	}
}

// TestDifferencesFold checks the purpose of the view: after any sequence of states, a consumer that folds the differences has the same
// state as one that starts at the last of them. Only for an invalid value may they differ: the first may know a valid version.
func TestDifferencesFold(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	names := []string{"a", "default.a", "b", "default.b", "c"}
	for range 200 {
		v, known, revision := newView(), told{}, int64(1)
		current := map[string]Entry{}
		for range 20 {
			for range random.IntN(4) {
				revision++
				name := names[random.IntN(len(names))]
				switch random.IntN(3) {
				case 0:
					delete(current, name)
				default:
					current[name] = entry(name, fmt.Sprintf("x == '%d'", revision), revision)
				}
			}
			var list []Entry
			for _, name := range names {
				if e, ok := current[name]; ok {
					list = append(list, e)
				}
			}
			known.fold(t, difference(v, list))
			fresh := told{}
			fresh.fold(t, difference(newView(), list))
			if diff := cmp.Diff(fresh, known); diff != "" {
				t.Fatalf("seed %d: -fresh +folded\n%s", seed, diff)
			}
		}
	}
}

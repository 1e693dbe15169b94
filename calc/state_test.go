package calc

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/api"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Beside each file of objects is the State of node n1, as text, and for one of them also as JSON.
func TestStatesAreAsWrittenDown(t *testing.T) {
	files, err := filepath.Glob("testdata/states/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	facts := scenarioFacts()
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			updates := readObjects(t, file)
			state := Compute("n1", facts, updates)
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", []byte(state.Text()))
			g, folded := New("n1", facts), &State{}
			for _, u := range updates {
				g.Update(u)
				folded.Fold(g.Flush())
			}
			if diff := cmp.Diff(state.Text(), folded.Text()); diff != "" {
				t.Errorf("the objects one by one give another state:\n%s", diff)
			}
			if name != "host" {
				return
			}
			text, err := json.MarshalIndent(state, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".json", append(text, '\n'))
		})
	}
}

func scenarioFacts() Facts {
	return Facts{
		Addresses: []netip.Addr{netip.MustParseAddr("10.70.0.1")},
		Uplinks:   map[string]string{"eth0": "carries the host's default route"},
		Sessions:  []Session{{Remote: netip.MustParseAddr("10.70.0.9"), Port: 2379, Outbound: true, Protocol: 6}},
	}
}

// readObjects reads objects that may have beside their own fields: invalid (why), noObject (no part of it could be read), key, and
// gone. A document with step: true is an update of no kind.
func readObjects(t testing.TB, file string) (updates []api.Update) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		var about struct {
			Kind, Invalid string
			NoObject      bool
			Gone, Step    bool
			Key           *struct{ Namespace, Name string }
		}
		if err := yaml.Unmarshal(document, &about); err != nil {
			t.Fatalf("%s: %v", document, err)
		}
		u := api.Update{Key: api.Key{Kind: about.Kind}, Invalid: about.Invalid}
		if !about.NoObject && !about.Step {
			object, known := api.New(about.Kind)
			if !known {
				t.Fatalf("kind %q", about.Kind)
			}
			if err := yaml.Unmarshal(document, object); err != nil {
				t.Fatalf("%s: %v", document, err)
			}
			u.Key, u.Object = api.KeyOf(object), object
		}
		if about.Gone {
			u.Object = nil
		}
		if about.Key != nil {
			u.Key.Namespace, u.Key.Name = about.Key.Namespace, about.Key.Name
		}
		updates = append(updates, u)
	}
	return updates
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is (-) and should be (+), if that is right run with -update:\n%s", file, diff)
	}
}

package calc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

// Documents with "step: true" cut a file of objects into steps. The file beside it has the Delta of each step, as text and as JSON.
func TestDeltasAreAsWrittenDown(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/deltas/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		g, before := New("n1", scenarioFacts()), &State{}
		var lines, values bytes.Buffer
		for i, updates := range readSteps(t, file) {
			for _, u := range updates {
				g.Update(u)
			}
			d, after := g.Flush(), before.Clone()
			after.Fold(d)
			if again := Diff(before, after); i > 0 && again.Text() != d.Text() {
				t.Errorf("%s, step %d: the graph says\n%s, the states differ by\n%s", file, i, d.Text(), again.Text())
			}
			fmt.Fprintf(&lines, "--- step\n%s", d.Text())
			text, err := json.MarshalIndent(d, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&values, "%s\n", text)
			before = after
		}
		golden(t, strings.TrimSuffix(file, ".yaml")+".txt", lines.Bytes())
		golden(t, strings.TrimSuffix(file, ".yaml")+".json", values.Bytes())
	}
}

func TestAnEmptyDeltaHasNoLines(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(Delta{})
	if (Delta{}).Text() != "" || string(text) != "{}" || err != nil {
		t.Errorf("%q %s %v", Delta{}.Text(), text, err)
	}
}

func readSteps(t *testing.T, file string) (steps [][]api.Update) {
	t.Helper()
	for _, u := range readObjects(t, file) {
		if u.Key.Kind == "" {
			steps = append(steps, nil)
			continue
		}
		steps[len(steps)-1] = append(steps[len(steps)-1], u)
	}
	return steps
}

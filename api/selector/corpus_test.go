package selector

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

type verdict struct {
	ID, Note, Selector, Canonical string
	Labels                        map[string]string
	Valid, Matches                bool
}

func corpus(t testing.TB) []verdict {
	t.Helper()
	text, err := os.ReadFile("testdata/selector.visible.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var verdicts []verdict
	for line := range strings.Lines(string(text)) {
		var v verdict
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

func TestRecordedVerdictsAreOurs(t *testing.T) {
	t.Parallel()
	verdicts := corpus(t)
	for _, v := range verdicts {
		s, err := Parse(v.Selector)
		if (err == nil) != v.Valid {
			t.Errorf("%s (%s): %q: valid should be %v, error %v", v.ID, v.Note, v.Selector, v.Valid, err)
			continue
		}
		if err != nil {
			continue
		}
		if s.String() != v.Canonical {
			t.Errorf("%s (%s): %q is %q, want %q", v.ID, v.Note, v.Selector, s, v.Canonical)
		}
		if s.Matches(Map(v.Labels)) != v.Matches {
			t.Errorf("%s (%s): %q on %v: want %v", v.ID, v.Note, v.Selector, v.Labels, v.Matches)
		}
	}
	t.Logf("%d recorded verdicts", len(verdicts))
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// TestRecordedVerdictsAtTheCommandLine asks for the verdicts as they were recorded: a manifest is valid when validate
// accepts it and create does in a datastore in which nothing was created yet.
func TestRecordedVerdictsAtTheCommandLine(t *testing.T) {
	t.Parallel()
	differ := map[string]bool{}
	for line := range strings.Lines(readFile(t, "../api/testdata/differences.txt")) {
		if note, why, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok && why != "store" {
			differ[note] = true
		}
	}
	agree := 0
	for line := range strings.Lines(readFile(t, "../api/testdata/validate.jsonl")) {
		var r struct {
			ID, Note, Manifest string
			Valid              bool
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		valid, said := acceptedByCommands(t, r.Manifest)
		if valid == r.Valid == differ[r.Note] {
			t.Errorf("%s (%s): recorded %v, ours %v, to differ %v: %s", r.ID, r.Note, r.Valid, valid, differ[r.Note], said)
		}
		if valid == r.Valid {
			agree++
		}
	}
	t.Logf("%d recorded verdicts agree, %d differ on purpose", agree, len(differ))
}

// acceptedByCommands says whether validate and then create accept a manifest, and what they said.
func acceptedByCommands(t *testing.T, manifest string) (ok bool, said string) {
	kv := kvtest.NewMemory()
	var text bytes.Buffer
	for _, verb := range []string{"validate", "create"} {
		s := newSession(strings.NewReader(manifest), &text, &text, func(string) string { return "" })
		s.open = func(context.Context, *session) (store, func(), error) { return datastore.New(kv), func() {}, nil }
		if s.run(t.Context(), []string{verb, "-f", "-"}) != 0 {
			return false, text.String()
		}
	}
	return true, text.String()
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

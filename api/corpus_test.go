package api

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

type recorded struct {
	ID, Note, Manifest, Error string
	Valid                     bool
}

// accepted says whether a manifest would be stored, and why not.
func accepted(manifest string) (bool, string) {
	objects, err := Decode([]byte(manifest))
	if err != nil {
		return false, err.Error()
	}
	if len(objects) == 0 {
		return false, "no objects"
	}
	for _, o := range objects {
		Default(o)
		if err := Validate(o); err != nil {
			return false, err.Error()
		}
	}
	return true, ""
}

func TestRecordedVerdictsOnManifests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/validate.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	differ, agree := differences(t), 0
	for line := range strings.Lines(string(text)) {
		var r recorded
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		valid, reason := accepted(r.Manifest)
		why, known := differ[r.Note]
		switch {
		case valid == r.Valid && known:
			t.Errorf("%s (%s): agrees, although %s", r.ID, r.Note, why)
		case valid == r.Valid:
			agree++
		case !known:
			t.Errorf("%s (%s): recorded %v (%.200s), ours %v: %s", r.ID, r.Note, r.Valid, r.Error, valid, reason)
		}
	}
	t.Logf("%d recorded verdicts agree, %d differ on purpose", agree, len(differ))
}

// differences holds the manifests with another verdict in Margay than in Calico, with the reason.
func differences(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	why := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if note, reason, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			why[note] = reason
		}
	}
	return why
}

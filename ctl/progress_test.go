package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// sets are manifests of that many GlobalNetworkSets.
func sets(count int) string {
	var documents []string
	for i := range count {
		documents = append(documents, fmt.Sprintf("{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: s%03d}}", i))
	}
	return strings.Join(documents, "\n---\n")
}

// applyFor applies objects where each look at the clock takes some time.
func applyFor(t *testing.T, terminal bool, look time.Duration, verb ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	s := newSession(strings.NewReader(""), &out, &errs, func(string) string { return "" })
	st := datastore.New(kvtest.NewMemory())
	s.open = func(context.Context, *session) (store, func(), error) { return st, func() {}, nil }
	at := time.Unix(1_800_000_000, 0)
	s.now = func() time.Time { at = at.Add(look); return at }
	s.terminal, s.batchObjects = terminal, 4
	if code := s.run(t.Context(), append(verb, "-f", manifestFile(t, sets(12)))); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	return out.String(), errs.String()
}

func TestLongWorkSaysOnATerminalHowFarItIs(t *testing.T) {
	t.Parallel()
	stdout, stderr := applyFor(t, true, 250*time.Millisecond, "apply")
	var want strings.Builder
	for done := 4; done <= 12; done++ {
		fmt.Fprintf(&want, "\r\x1b[K%d/12 GlobalNetworkSet, 4/s", done)
	}
	want.WriteString("\r\x1b[K")
	if stdout != "Successfully applied 12 'GlobalNetworkSet' resource(s)\n" || stderr != want.String() {
		t.Errorf("stdout %q, stderr %q, want %q", stdout, stderr, want.String())
	}
}

func TestProgressIsNotWrittenMoreOftenThanItCanBeRead(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	at := time.Unix(1_800_000_000, 0)
	p := &progress{to: &out, now: func() time.Time { return at }, total: 5000, started: at}
	for range 3000 {
		at = at.Add(time.Millisecond)
		p.step("Tier")
	}
	if lines := strings.Count(out.String(), "/5000 Tier, 1000/s"); lines != 21 {
		t.Errorf("%d lines in the two seconds after the first, want one for each tenth", lines)
	}
}

func TestProgressIsNotSeenByScriptsNorInShortWork(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		terminal bool
		look     time.Duration
	}{"a script": {false, time.Hour}, "short work": {true, time.Millisecond}} {
		if _, stderr := applyFor(t, c.terminal, c.look, "apply"); stderr != "" {
			t.Errorf("%s: stderr %q", name, stderr)
		}
	}
}

func TestProgressGivesWayToWhatIsSaid(t *testing.T) {
	t.Parallel()
	_, stderr := applyFor(t, true, time.Second, "apply", "--dry-run=server")
	for _, line := range strings.Split(strings.TrimSuffix(stderr, "\r\x1b[K"), "\n") {
		visible := line[strings.LastIndex(line, "\x1b[K")+1:]
		if visible = strings.TrimPrefix(visible, "[K"); visible != "" && !strings.HasSuffix(visible, ": created (dry run)") && !strings.Contains(visible, "12/12") {
			t.Errorf("a reader sees %q", visible)
		}
	}
	if !strings.Contains(stderr, "/s\r\x1b[KGlobalNetworkSet(s005): created") {
		t.Errorf("the progress line was not taken away: %q", stderr)
	}
}

package table_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/dataplane/table"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// TestStories runs the commands in testdata/*.txt. The indented lines under a command are its expected output.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories in testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got != string(text) && !*update {
				t.Errorf("the output differs from the story:\n%s", got)
			}
		})
	}
}

func play(t *testing.T, story string) string {
	target := &fake{held: map[string]string{}, fails: map[string]string{}}
	entries := table.New("things", target, func(a, b string) bool { return a == b })
	now := time.Unix(0, 0)
	var out strings.Builder
	for line := range strings.Lines(story) {
		if strings.HasPrefix(line, "    ") {
			continue
		}
		out.WriteString(line)
		words := strings.Fields(strings.SplitN(line, "#", 2)[0])
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "held": // an entry of an earlier process or of another program in the target
			target.held[words[1]] = words[2]
		case "lost":
			delete(target.held, words[1])
		case "want":
			entries.Want(words[1], words[2])
		case "unwant":
			entries.Unwant(words[1])
		case "fail": // refuse|lost, operation, key
			target.fails[strings.Join(words[2:], " ")] = words[1]
		case "heal":
			clear(target.fails)
		case "resync":
			entries.Resync()
		case "wait":
			d, err := time.ParseDuration(words[1])
			if err != nil {
				t.Fatal(err)
			}
			now = now.Add(d)
		case "pass": // "pass early": before the input is complete
			err := entries.Reconcile(now, len(words) == 1)
			report(&out, entries, target, err, now)
		default:
			t.Fatalf("unknown command %q", line)
		}
	}
	return out.String()
}

func report(out *strings.Builder, entries *table.Table[string, string], target *fake, err error, now time.Time) {
	for _, call := range target.drain() {
		fmt.Fprintln(out, "    "+call)
	}
	repairs := entries.Repairs()
	slices.SortFunc(repairs, func(a, b table.Repair) int { return strings.Compare(a.Entry, b.Entry) })
	for _, r := range repairs {
		fmt.Fprintln(out, "    repaired", r)
	}
	s := entries.Status()
	fmt.Fprintf(out, "    holds %v, wanted %d programmed %d failed %d\n", target, s.Wanted, s.Programmed, s.Failed)
	if at, retry := entries.Retry(); retry {
		fmt.Fprintf(out, "    again in %v: %v\n", at.Sub(now), s.Error)
	}
	if (err != nil) && len(strings.Split(err.Error(), "\n")) > 1 {
		fmt.Fprintf(out, "    errors: %d\n", len(strings.Split(err.Error(), "\n")))
	}
}

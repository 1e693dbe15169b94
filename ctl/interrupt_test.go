package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// failing is a KV of which the nth commit is followed by something.
type failing struct {
	*kvtest.Memory
	commits int
	before  func(commit int) error
}

func (f *failing) Commit(ctx context.Context, conditions []datastore.Condition, writes []datastore.Write) (datastore.Outcome, error) {
	f.commits++
	if err := f.before(f.commits); err != nil {
		return datastore.Outcome{}, err
	}
	return f.Memory.Commit(ctx, conditions, writes)
}

// runFailing runs the command on an initialised store, where something happens before each commit.
func runFailing(t *testing.T, batch int, before func(commit int, interrupt func()) error, args ...string) (transcript, int) {
	t.Helper()
	memory := kvtest.NewMemory()
	if err := datastore.New(memory).EnsureInitialized(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	kv := &failing{Memory: memory, before: func(n int) error { return before(n, interrupt) }}
	var stdout, stderr bytes.Buffer
	s := newSession(strings.NewReader(""), &stdout, &stderr, func(string) string { return "" })
	s.open = func(context.Context, *session) (store, func(), error) { return datastore.New(kv), func() {}, nil }
	s.batchObjects = batch
	code := s.run(ctx, args)
	stored := contents(t, memory)
	written := 0
	for key := range stored {
		if strings.Contains(key, "/globalnetworksets/") {
			written++
		}
	}
	return transcript{code, stdout.String(), stderr.String(), stored}, written
}

func TestInterruptFinishesWhatWasBegunAndSaysHowFarItIs(t *testing.T) {
	t.Parallel()
	file := manifestFile(t, sets(20))
	for batch, handled := range map[int]int{1: 2, 8: 16, 100: 20} {
		run, written := runFailing(t, batch, func(commit int, interrupt func()) error {
			if commit == 2 || batch == 100 {
				interrupt()
			}
			return nil
		}, "apply", "-f", file)
		want := transcript{Code: 1, Stdout: fmt.Sprintf("Partial success: applied the first %d out of 20 'GlobalNetworkSet' resources:\n", handled),
			Stderr: fmt.Sprintf("interrupted after %d of 20 'GlobalNetworkSet' resources\nthe other objects were not touched: run the same command again to continue\n", handled)}
		if handled == 20 {
			want = transcript{Stdout: "Successfully applied 20 'GlobalNetworkSet' resource(s)\n"}
		}
		if run.Code != want.Code || run.Stdout != want.Stdout || run.Stderr != want.Stderr || written != handled {
			t.Errorf("%d at a time: %d are written, exit code %d, %q, %q\nwant %+v", batch, written, run.Code, run.Stdout, run.Stderr, want)
		}
	}
}

func TestACommitWithoutAnswerFailsOnlyItsObjects(t *testing.T) {
	t.Parallel()
	run, written := runFailing(t, 8, func(commit int, _ func()) error {
		if commit == 2 {
			return errors.New("etcd does not answer")
		}
		return nil
	}, "create", "-f", manifestFile(t, sets(20)))
	if written != 12 || run.Code != 1 || run.Stdout != "Partial success: created the first 12 out of 20 'GlobalNetworkSet' resources:\n" ||
		strings.Count(run.Stderr, "etcd does not answer") != 8 || !strings.Contains(run.Stderr, "create GlobalNetworkSet(s008): etcd does not answer") {
		t.Errorf("%d are written, exit code %d\n%s%s", written, run.Code, run.Stdout, run.Stderr)
	}
	run, written = runFailing(t, 8, func(int, func()) error { return errors.New("etcd does not answer") },
		"create", "--atomic", "-f", manifestFile(t, sets(20)))
	want := "failed to create any 'GlobalNetworkSet' resources: [etcd does not answer]\n" + hintUnknown + "\n"
	if written != 0 || run.Code != 1 || run.Stdout != "" || run.Stderr != want {
		t.Errorf("%d are written, exit code %d\n%s%s", written, run.Code, run.Stdout, run.Stderr)
	}
}

// Each request to a datastore that is gone takes its whole patience: thousands of objects would take hours to fail.
func TestWorkEndsWhenTheDatastoreIsLost(t *testing.T) {
	t.Parallel()
	for batch, want := range map[int]struct{ asked, failed int }{1: {5, 1}, 8: {2, 8}} {
		asked := 0
		run, written := runFailing(t, batch, func(commit int, _ func()) error {
			asked = commit
			if commit == want.asked {
				return fmt.Errorf("etcd does not answer: %w", context.DeadlineExceeded)
			}
			return nil
		}, "create", "-f", manifestFile(t, sets(20)))
		handled := (want.asked - 1) * batch
		stderr := fmt.Sprintf("interrupted after %d of 20 'GlobalNetworkSet' resources, hit error:", handled+want.failed)
		if asked != want.asked || written != handled || run.Code != 1 || !strings.HasPrefix(run.Stderr, stderr) ||
			strings.Count(run.Stderr, "etcd does not answer") != want.failed ||
			!strings.HasSuffix(run.Stderr, "the other objects were not touched: run the same command again to continue\n") {
			t.Errorf("%d at a time: asked %d times, %d are written, exit code %d\n%s%s", batch, asked, written, run.Code, run.Stdout, run.Stderr)
		}
	}
}

func TestTransactionThatWasNotSentHasWrittenNothing(t *testing.T) {
	t.Parallel()
	memory := kvtest.NewMemory()
	memory.Offline(errors.New("etcd does not answer"))
	var stdout, stderr bytes.Buffer
	s := newSession(strings.NewReader(""), &stdout, &stderr, func(string) string { return "" })
	s.open = func(context.Context, *session) (store, func(), error) { return datastore.New(memory), func() {}, nil }
	code := s.run(t.Context(), []string{"apply", "--atomic", "-f", manifestFile(t, sets(2))})
	want := "failed to apply any 'GlobalNetworkSet' resources: [etcd does not answer]\n" + hintNothing + "\n"
	if code != 1 || stdout.String() != "" || stderr.String() != want {
		t.Errorf("exit code %d\n%s%s", code, stdout.String(), stderr.String())
	}
}

func TestInterruptedTransactionWritesNothing(t *testing.T) {
	t.Parallel()
	memory := kvtest.NewMemory()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	var stdout, stderr bytes.Buffer
	s := newSession(strings.NewReader(""), &stdout, &stderr, func(string) string { return "" })
	s.open = func(context.Context, *session) (store, func(), error) { return datastore.New(memory), func() {}, nil }
	code := s.run(ctx, []string{"apply", "--atomic", "-f", manifestFile(t, sets(3))})
	if code != 1 || stdout.String() != "" || !strings.HasPrefix(stderr.String(), "interrupted after 0 of 3 'GlobalNetworkSet' resources\n") || len(contents(t, memory)) != 0 {
		t.Errorf("exit code %d\n%s%s", code, stdout.String(), stderr.String())
	}
}

// An interrupt before anything was begun, such as while the datastore does not answer, is called by its name.
func TestAnInterruptWhileReadingIsReportedAsOne(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	var stdout, stderr bytes.Buffer
	s := newSession(strings.NewReader(""), &stdout, &stderr, func(string) string { return "" })
	s.open = func(ctx context.Context, _ *session) (store, func(), error) { return nil, nil, ctx.Err() }
	code := s.run(ctx, []string{"get", "nodes"})
	if code != 1 || stderr.String() != "interrupted: context canceled\n" {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// watched is a KV that calls before ahead of each request, and after behind each commit.
type watched struct {
	*kvtest.Memory
	before func()
	after  func() error
}

func (w *watched) Range(ctx context.Context, span datastore.Span, revision int64, limit int) (datastore.Page, error) {
	w.before()
	if err := ctx.Err(); err != nil {
		return datastore.Page{}, err
	}
	return w.Memory.Range(ctx, span, revision, limit)
}

func (w *watched) Lookup(ctx context.Context, keys []string) ([]*datastore.Entry, int64, error) {
	w.before()
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	return w.Memory.Lookup(ctx, keys)
}

func (w *watched) Commit(ctx context.Context, conditions []datastore.Condition, writes []datastore.Write) (datastore.Outcome, error) {
	w.before()
	if err := ctx.Err(); err != nil {
		return datastore.Outcome{}, err
	}
	outcome, err := w.Memory.Commit(ctx, conditions, writes)
	return outcome, errors.Join(err, w.after())
}

const workloadObjects = `
{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: host1}}
---
{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: vms}, spec: {cidr: 10.0.0.0/24}}
---
{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: six}, spec: {cidr: "fd00::/64"}}
`

// times finds the values of blocks and objects that are the time of a run, or follow from it.
var times = regexp.MustCompile(`"(affinity_claim_time|released_at|creationTimestamp|sequenceNumber|sequenceNumberForAllocation)":("[^"]*"|[0-9]+|{[^}]*})`)

// workloadRun runs one command on a copy of a store. It counts the requests, and ends the run at one of them; 0: at none.
type workloadRun struct {
	memory   *kvtest.Memory
	requests int
	commits  int
	stderr   string
	code     int
}

func runWorkload(t *testing.T, prepare [][]string, interruptAt int, afterCommit func() error, args ...string) *workloadRun {
	t.Helper()
	run := &workloadRun{memory: kvtest.NewMemory()}
	if err := datastore.New(run.memory).EnsureInitialized(t.Context()); err != nil {
		t.Fatal(err)
	}
	quiet := func() error { return nil }
	for _, before := range prepare {
		if run.again(t, 0, quiet, before...); run.code != 0 {
			t.Fatal(before, run.stderr)
		}
	}
	run.again(t, interruptAt, afterCommit, args...)
	return run
}

// again runs a command on the store of the run.
func (r *workloadRun) again(t *testing.T, interruptAt int, afterCommit func() error, args ...string) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	r.requests, r.commits = 0, 0
	kv := &watched{
		Memory: r.memory,
		before: func() {
			if r.requests++; r.requests == interruptAt {
				interrupt()
			}
		},
		after: func() error { r.commits++; return afterCommit() },
	}
	var stdout, stderr bytes.Buffer
	s := newSession(strings.NewReader(workloadObjects), &stdout, &stderr, func(name string) string {
		return map[string]string{"FELIX_NODENAME": "host1"}[name]
	})
	s.open = func(context.Context, *session) (store, func(), error) { return datastore.New(kv), func() {}, nil }
	s.links = func() (map[string]bool, error) { return map[string]bool{"tap0": true}, nil }
	s.pause = func(context.Context, time.Duration) error { return nil }
	r.code, r.stderr = s.run(ctx, args), stderr.String()
}

func (r *workloadRun) state(t *testing.T) map[string]string {
	all := contents(t, r.memory)
	for key, value := range all {
		all[key] = times.ReplaceAllString(value, "")
	}
	return all
}

// An interruption between any two requests to the datastore leaves everything as it was, or everything done, addresses included. The
// same command then completes it.
func TestAWorkloadIsAddedAndRemovedAsAWhole(t *testing.T) {
	t.Parallel()
	apply := []string{"apply", "-f", "-"}
	add := []string{"workload", "add", "web", "--interface", "tap0", "--ipam", "auto", "--count", "3", "--ipv6-count", "2"}
	given := []string{"workload", "add", "web", "--interface", "tap0", "--address", "10.0.0.7", "--address", "fd00::7"}
	for name, test := range map[string]struct {
		prepare [][]string
		args    []string
	}{
		"add with chosen addresses": {[][]string{apply}, add},
		"add with given addresses":  {[][]string{apply}, given},
		"change":                    {[][]string{apply, add}, given},
		"remove":                    {[][]string{apply, add}, []string{"workload", "remove", "web", "--skip-not-exists"}},
	} {
		quiet := func() error { return nil }
		whole := runWorkload(t, test.prepare, 0, quiet, test.args...)
		if whole.code != 0 || whole.commits != 1 {
			t.Fatalf("%s: exit code %d, %d commits\n%s", name, whole.code, whole.commits, whole.stderr)
		}
		before := runWorkload(t, test.prepare, 0, quiet, "version").state(t)
		outcomes := map[string]bool{}
		for at := 1; at <= whole.requests; at++ {
			run := runWorkload(t, test.prepare, at, quiet, test.args...)
			state := run.state(t)
			switch {
			case cmp.Equal(state, whole.state(t)):
				outcomes["done"] = true
			case cmp.Equal(state, before):
				outcomes["nothing"] = true
				if run.code == 0 {
					t.Errorf("%s, interrupted at request %d: nothing is done, and the exit code is 0", name, at)
				}
			default:
				t.Errorf("%s, interrupted at request %d:\n%s", name, at, cmp.Diff(before, state))
			}
			run.again(t, 0, quiet, test.args...)
			if diff := cmp.Diff(whole.state(t), run.state(t)); run.code != 0 || diff != "" {
				t.Errorf("%s, repeated after an interruption at request %d: exit code %d\n%s%s", name, at, run.code, run.stderr, diff)
			}
		}
		if got := fmt.Sprint(slices.Sorted(maps.Keys(outcomes))); got != "[done nothing]" {
			t.Errorf("%s: the interruptions had only the outcome %s", name, got)
		}
	}
}

// When the answer to the commit is lost, the command says that it may have happened, and the same command finds it done.
func TestALostAnswerAboutAWorkloadIsRepeated(t *testing.T) {
	t.Parallel()
	add := []string{"workload", "add", "web", "--interface", "tap0", "--ipam", "auto"}
	run := runWorkload(t, [][]string{{"apply", "-f", "-"}}, 0, func() error { return errors.New("etcd does not answer") }, add...)
	want := "etcd does not answer\nthe datastore did not confirm the change, so all of it is made, or nothing: run the same command again\n"
	if run.code != 1 || !strings.HasSuffix(run.stderr, want) {
		t.Errorf("exit code %d, %s", run.code, run.stderr)
	}
	run.again(t, 0, func() error { return nil }, add...)
	if run.code != 0 || run.commits != 0 {
		t.Errorf("the command again: exit code %d, %d commits, %s", run.code, run.commits, run.stderr)
	}
}

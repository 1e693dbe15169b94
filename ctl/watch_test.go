package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/internal/lab"
)

// watching is a get --watch that runs.
type watching struct {
	*testing.T
	out, stderr *lab.Output
	cancel      func()
	ended       chan int // its exit code
}

// watch runs a get --watch until the test ends it.
func watch(t *testing.T, w *world, args ...string) *watching {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r := &watching{t, new(lab.Output), new(lab.Output), cancel, make(chan int, 1)}
	s := newSession(strings.NewReader(""), r.out, r.stderr, func(string) string { return "" })
	s.open = func(context.Context, *session) (store, func(), error) { return w.store, func() {}, nil }
	go func() { r.ended <- s.run(ctx, args) }()
	return r
}

// awaitLines waits until a stream has so many lines. It fails at once if the command has ended.
func (r *watching) awaitLines(stream *lab.Output, n int) {
	r.Helper()
	lab.Await(r.T, func() error {
		if strings.Count(stream.String(), "\n") >= n {
			return nil
		}
		if len(r.ended) > 0 {
			r.Fatalf("the command has ended:\n%s%s", r.out, r.stderr)
		}
		return fmt.Errorf("less than %d lines:\n%s", n, stream)
	})
}

// end ends the command, and returns its exit code.
func (r *watching) end() int {
	r.cancel()
	return <-r.ended
}

func TestWatchPrintsExistingObjectsAndThenEachChange(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(), context.Background()
	if err := w.store.EnsureInitialized(ctx); err != nil {
		t.Fatal(err)
	}
	r := watch(t, w, "get", "tier", "-w", "-l", "!has(hidden)")
	r.awaitLines(r.out, 4)
	order := 5.0
	tier, err := w.store.Create(ctx, &api.Tier{
		TypeMeta: api.TypeMeta{Kind: "Tier"}, Metadata: api.Metadata{Name: "a"}, Spec: api.TierSpec{Order: &order},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.awaitLines(r.out, 5)
	order = 6
	tier.(*api.Tier).Spec.Order = &order
	if tier, err = w.store.Update(ctx, tier); err != nil {
		t.Fatal(err)
	}
	r.awaitLines(r.out, 6)
	tier.Meta().Labels = map[string]string{"hidden": "yes"}
	if _, err = w.store.Update(ctx, tier); err != nil {
		t.Fatal(err)
	}
	r.awaitLines(r.out, 7)
	if code := r.end(); code != 0 {
		t.Errorf("an interrupted watch has exit code %d", code)
	}
	want := `EVENT      NAME            ORDER
ADDED      kube-admin      1000
ADDED      default         1e+06
ADDED      kube-baseline   1e+07
ADDED      a               5
MODIFIED   a               6
DELETED    a               6
`
	if got := regexp.MustCompile(` +\n`).ReplaceAllString(r.out.String(), "\n"); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

func TestWatchPrintsJSONLines(t *testing.T) {
	t.Parallel()
	w := newWorld()
	if err := w.store.EnsureInitialized(context.Background()); err != nil {
		t.Fatal(err)
	}
	r := watch(t, w, "get", "tier", "default", "-w", "-o", "json")
	r.awaitLines(r.out, 1)
	if code := r.end(); code != 0 || !strings.HasPrefix(r.out.String(), `{"type":"ADDED","object":{"kind":"Tier",`) ||
		strings.Contains(r.out.String(), "kube-admin") {
		t.Errorf("exit code %d after %s", code, r.out)
	}
}

func TestAWatchOfAnEmptyNamespaceSaysWhereObjectsAre(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(), context.Background()
	for _, namespace := range []string{"d", "b", "a", "c"} {
		o := &api.NetworkSet{TypeMeta: api.TypeMeta{Kind: "NetworkSet"}, Metadata: api.Metadata{Name: "set", Namespace: namespace}}
		if _, err := w.store.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	r := watch(t, w, "get", "networkset", "--watch")
	r.awaitLines(r.stderr, 1)
	r.end()
	want := "namespace default has no NetworkSet; there are some in a, b, c and others: use -n NAMESPACE, or -A for all namespaces\n"
	if got := r.stderr.String(); got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}

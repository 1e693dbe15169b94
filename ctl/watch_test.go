package main

import (
	"context"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/internal/lab"
)

// watching runs a get --watch until the test ends it by the function returned, which gives the exit code.
func watching(t *testing.T, w *world, args ...string) (out *lab.Output, end func() int) {
	return watchingWith(t, io.Discard, w, args...)
}

func watchingWith(t *testing.T, stderr io.Writer, w *world, args ...string) (out *lab.Output, end func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	out = new(lab.Output)
	s := newSession(strings.NewReader(""), out, stderr, func(string) string { return "" })
	s.open = func(context.Context, *session) (store, func(), error) { return w.store, func() {}, nil }
	code := make(chan int, 1)
	go func() { code <- s.run(ctx, args) }()
	return out, func() int { cancel(); return <-code }
}

func TestWatchPrintsExistingObjectsAndThenEachChange(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(), context.Background()
	if err := w.store.EnsureInitialized(ctx); err != nil {
		t.Fatal(err)
	}
	out, end := watching(t, w, "get", "tier", "-w", "-l", "!has(hidden)")
	out.AwaitText(t, "kube-baseline")
	order := 5.0
	tier, err := w.store.Create(ctx, &api.Tier{
		TypeMeta: api.TypeMeta{Kind: "Tier"}, Metadata: api.Metadata{Name: "a"}, Spec: api.TierSpec{Order: &order},
	})
	if err != nil {
		t.Fatal(err)
	}
	out.AwaitText(t, "ADDED      a")
	order = 6
	tier.(*api.Tier).Spec.Order = &order
	if tier, err = w.store.Update(ctx, tier); err != nil {
		t.Fatal(err)
	}
	out.AwaitText(t, "MODIFIED   a")
	tier.Meta().Labels = map[string]string{"hidden": "yes"}
	if _, err = w.store.Update(ctx, tier); err != nil {
		t.Fatal(err)
	}
	out.AwaitText(t, "DELETED    a")
	if code := end(); code != 0 {
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
	if got := regexp.MustCompile(` +\n`).ReplaceAllString(out.String(), "\n"); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

func TestWatchPrintsJSONLines(t *testing.T) {
	t.Parallel()
	w := newWorld()
	if err := w.store.EnsureInitialized(context.Background()); err != nil {
		t.Fatal(err)
	}
	out, end := watching(t, w, "get", "tier", "default", "-w", "-o", "json")
	out.AwaitText(t, "\n")
	if code := end(); code != 0 || !strings.HasPrefix(out.String(), `{"type":"ADDED","object":{"kind":"Tier",`) ||
		strings.Contains(out.String(), "kube-admin") {
		t.Errorf("exit code %d after %s", code, out)
	}
}

func TestAWatchOfAnEmptyNamespaceSaysWhereObjectsAre(t *testing.T) {
	t.Parallel()
	w, ctx, stderr := newWorld(), context.Background(), new(lab.Output)
	for _, namespace := range []string{"d", "b", "a", "c"} {
		o := &api.NetworkSet{TypeMeta: api.TypeMeta{Kind: "NetworkSet"}, Metadata: api.Metadata{Name: "set", Namespace: namespace}}
		if _, err := w.store.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	_, end := watchingWith(t, stderr, w, "get", "networkset", "--watch")
	stderr.AwaitText(t, "namespace default has no NetworkSet; there are some in a, b, c and others: use -n NAMESPACE, or -A for all namespaces\n")
	end()
}

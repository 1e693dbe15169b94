package main

import (
	"context"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// rangesCounted is a KV that counts what is listed, by the last part of the path.
type rangesCounted struct {
	*kvtest.Memory
	ranges map[string]int
}

func (r rangesCounted) Range(ctx context.Context, s datastore.Span, revision int64, limit int) (datastore.Page, error) {
	r.ranges[path.Base(strings.TrimSuffix(s.From, "/"))]++
	return r.Memory.Range(ctx, s, revision, limit)
}

// For the warnings about any number of written objects, each kind is listed at most once, and only if one of them needs it.
func TestWarningsListEachKindOnce(t *testing.T) {
	t.Parallel()
	const manifest = "---\n{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: p%d}, spec: {selector: a == 'b', ingress: [%s]}}\n"
	for rules, want := range map[string]int{
		"{action: Deny, protocol: TCP}": 1,
		"{action: Allow}":               0,
	} {
		var text strings.Builder
		for i := range 200 {
			fmt.Fprintf(&text, manifest, i, rules)
		}
		kv := rangesCounted{kvtest.NewMemory(), map[string]int{}}
		got := runOn(t, kv, 10, "apply", "-f", manifestFile(t, text.String()))
		for _, kind := range []string{"tiers", "globalnetworkpolicies", "hostendpoints", "workloadendpoints"} {
			if n := kv.ranges[kind]; n != want {
				t.Errorf("%s: %s are listed %d times, want %d", rules, kind, n, want)
			}
		}
		if lines := strings.Count(got.Stderr, "warning: "); lines != want {
			t.Errorf("%s: %d warnings, want %d:\n%s", rules, lines, want, got.Stderr)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

// At a terminal, only a clear yes deletes an object with dependents. For objects without dependents there is no question.
func TestDeleteAsksAtATerminal(t *testing.T) {
	t.Parallel()
	for answer, deleted := range map[string]bool{"y\n": true, "YES\n": true, "n\n": false, "\n": false, "": false, "yes, please\n": false} {
		w, ctx := newWorld(), context.Background()
		if err := w.store.EnsureInitialized(ctx); err != nil {
			t.Fatal(err)
		}
		peer := &api.BGPPeer{TypeMeta: api.TypeMeta{Kind: "BGPPeer"}, Metadata: api.Metadata{Name: "tor"}}
		peer.Spec.Node, peer.Spec.PeerIP = "node-a", "192.0.2.1"
		for _, o := range []api.Object{peer, named("Node", "node-a"), named("Node", "node-b")} {
			if _, err := w.store.Create(ctx, o); err != nil {
				t.Fatal(err)
			}
		}
		run := func(input string, args ...string) (int, string) {
			var stdout, stderr bytes.Buffer
			s := newSession(strings.NewReader(input), &stdout, &stderr, func(string) string { return "" })
			s.open = func(context.Context, *session) (store, func(), error) { return w.store, func() {}, nil }
			s.asks = true
			return s.run(ctx, args), stderr.String()
		}
		if code, stderr := run("", "delete", "node", "node-b"); code != 0 || stderr != "" {
			t.Errorf("nothing depends on node-b: exit code %d\n%s", code, stderr)
		}
		code, stderr := run(answer, "delete", "node", "node-a")
		if (code == 0) != deleted || !strings.Contains(stderr, "1 BGPPeer of the node are deleted with it") ||
			!strings.Contains(stderr, "delete anyway? [y/N] ") || !deleted && !strings.Contains(stderr, "nothing was deleted") {
			t.Errorf("answer %q: exit code %d\n%s", answer, code, stderr)
		}
		for _, o := range []api.Object{peer, named("Node", "node-a")} {
			if _, err := w.store.Get(ctx, api.KeyOf(o)); isNotFound(err) != deleted {
				t.Errorf("answer %q: %v is deleted: %v, want %v", answer, api.KeyOf(o), isNotFound(err), deleted)
			}
		}
		if code, stderr := run("", "delete", "node", "node-a", "--dry-run=server"); !deleted && (code != 0 || strings.Contains(stderr, "[y/N]")) {
			t.Errorf("a dry run asks: exit code %d\n%s", code, stderr)
		}
	}
}

func named(kind, name string) api.Object {
	o, _ := api.New(kind)
	o.Meta().Name = name
	return o
}

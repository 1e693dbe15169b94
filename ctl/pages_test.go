package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv"
)

// meddler is standard output of which the first write makes somebody change the datastore.
type meddler struct {
	bytes.Buffer
	meddle func()
}

func (m *meddler) Write(p []byte) (int, error) {
	if m.meddle != nil {
		m.meddle()
		m.meddle = nil
	}
	return m.Buffer.Write(p)
}

const setPath = "/calico/resources/v3/projectcalico.org/globalnetworksets/"

func putSets(t *testing.T, w *world, names ...string) {
	t.Helper()
	for _, name := range names {
		value := fmt.Sprintf(`{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":%q},"spec":{"nets":["10.0.0.1"]}}`, name)
		write := datastore.Write{Key: setPath + name, Value: []byte(value)}
		if _, err := w.kv.Commit(t.Context(), nil, []datastore.Write{write}); err != nil {
			t.Fatal(err)
		}
	}
}

func names(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("set-%05d", i))
	}
	return all
}

// getMeddled runs get on a world, with a change of it after the first page has been printed.
func getMeddled(w *world, meddle func(), args ...string) (code int, stdout, stderr string) {
	out, errs := &meddler{meddle: meddle}, new(bytes.Buffer)
	s := newSession(strings.NewReader(""), out, errs, func(string) string { return "" })
	s.open = func(context.Context, *session) (store, func(), error) { return w.store, func() {}, nil }
	code = s.run(context.Background(), append([]string{"get"}, args...))
	return code, out.String(), errs.String()
}

func TestALongListIsReadAtOneRevision(t *testing.T) {
	t.Parallel()
	w, listed := newWorld(), names(0, 2*kv.PageSize+1)
	putSets(t, w, listed...)
	code, stdout, stderr := getMeddled(w, func() {
		putSets(t, w, "a-first", "set-00000-new", "zzz-last")
		if _, err := w.kv.Commit(t.Context(), nil, []datastore.Write{{Key: setPath + listed[1500], Delete: true}}); err != nil {
			t.Error(err)
		}
	}, "gnetset")
	var got []string
	for line := range strings.Lines(stdout) {
		got = append(got, strings.TrimSpace(line))
	}
	want := append(append([]string{"NAME"}, listed...), "")
	if diff := cmp.Diff(want, got); code != 0 || stderr != "" || diff != "" {
		t.Errorf("exit code %d, %s\n%s", code, stderr, diff)
	}
}

func TestAnInterruptedListSaysThatItIsNotComplete(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meddle func(*world)
		want   string
	}{
		"compacted": {func(w *world) { putSets(t, w, "other"); w.kv.Compact() },
			"list globalnetworksets: the required revision has been compacted\n" +
				"the printed list is not complete: etcd was compacted while it was read; run the command again\n"},
		"lost": {func(w *world) { w.kv.Offline(io.ErrUnexpectedEOF) },
			"list globalnetworksets: unexpected EOF\nthe printed list is not complete: run the command again\n"},
	} {
		for _, output := range []string{"ps", "json", "yaml"} {
			w := newWorld()
			putSets(t, w, names(0, kv.PageSize+1)...)
			code, stdout, stderr := getMeddled(w, func() { c.meddle(w) }, "gnetset", "-o", output)
			if code != 1 || stderr != c.want {
				t.Errorf("%s, %s: exit code %d\n%s", name, output, code, stderr)
			}
			if got := strings.Count(stdout, "set-0"); got != kv.PageSize || strings.Contains(stdout, names(kv.PageSize, kv.PageSize+1)[0]) {
				t.Errorf("%s, %s: %d objects", name, output, got)
			}
			if output == "ps" && stdout[len(stdout)-2:] != " \n" {
				t.Errorf("%s: the last row is %q", name, stdout[len(stdout)-20:])
			}
			if output == "json" && strings.HasSuffix(stdout, "]\n}") {
				t.Errorf("%s: a part of a list looks whole", name)
			}
		}
	}
}

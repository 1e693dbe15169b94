package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv"
)

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// words are texts that YAML breaks, quotes, or writes as blocks.
func words(r *rand.Rand) string {
	pieces := []string{"role == 'db'", " ", "&& ", "has(x)", "\n", "  ", "é", "漢字", "\"", "#", ": ", "yes", "12", "-", "\\", "<>"}
	var text strings.Builder
	for range r.IntN(40) {
		text.WriteString(pieces[r.IntN(len(pieces))])
	}
	return text.String()
}

func TestATableIsAlignedAsTabwriterDoes(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	for range 200 {
		columns := 1 + r.IntN(5)
		rows := make([][]string, r.IntN(8))
		var want bytes.Buffer
		reference := tabwriter.NewWriter(&want, 5, 1, 3, ' ', 0)
		for i := range rows {
			for range columns {
				rows[i] = append(rows[i], strings.ReplaceAll(words(r), "\n", ""))
			}
			fmt.Fprintln(reference, strings.Join(rows[i], "\t")+"\t")
		}
		reference.Flush()
		var got bytes.Buffer
		if err := newTable(&got).print(rows); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), got.String()); diff != "" {
			t.Fatalf("%q:\n%s", rows, diff)
		}
	}
}

func TestAWiderRowLaterMovesTheColumnsFromThereOn(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	table := newTable(&out)
	for _, rows := range [][][]string{{{"NAME", "NODE"}, {"a", "b"}}, {{"longer-name", "b\n\x1b[31m"}}, {{"c", "d"}}} {
		if err := table.print(rows); err != nil {
			t.Fatal(err)
		}
	}
	want := "NAME   NODE   \na      b      \nlonger-name   b\\n\\x1b[31m   \nc             d             \n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAListPrintedPageByPageIsTheWholeDocument(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	for _, count := range []int{0, 1, 2, 3, 50} {
		var objects []api.Object
		for i := range count {
			policy := &api.GlobalNetworkPolicy{TypeMeta: api.TypeMeta{Kind: "GlobalNetworkPolicy", APIVersion: api.APIVersion}}
			policy.Name, policy.Spec.Selector = fmt.Sprint("p", i), words(r)
			policy.Annotations = map[string]string{words(r): words(r), "a": words(r)}
			objects = append(objects, policy)
		}
		whole := result{kind: "GlobalNetworkPolicy", list: true, objects: objects, revision: "77"}.value()
		for name, f := range map[string]struct {
			format  format
			marshal func(any) ([]byte, error)
		}{"yaml": {yamlFormat{}, yaml.Marshal}, "json": {jsonFormat{}, marshalJSON}} {
			want, err := f.marshal(whole)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			p, err := f.format.pages(&got, "GlobalNetworkPolicy", nil)
			if err != nil {
				t.Fatal(err)
			}
			for at, n := 0, 0; at == 0 || at < count; at += max(n, 1) {
				n = min(count-at, 1+r.IntN(20))
				if err := p.page(objects[at:at+n], "77"); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.end(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s, %d objects:\n%s", name, len(objects), diff)
			}
		}
	}
}

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

func TestALongListIsThatOfOneMoment(t *testing.T) {
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

func TestAListThatBreaksOffSaysSo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meddle func(*world)
		want   string
	}{
		"compacted": {func(w *world) { putSets(t, w, "other"); w.kv.Compact() },
			"list globalnetworksets: the required revision has been compacted\n" +
				"the datastore was compacted while the list was read: what was printed is not all of it; list again\n"},
		"lost": {func(w *world) { w.kv.Offline(io.ErrUnexpectedEOF) },
			"list globalnetworksets: unexpected EOF\nwhat was printed is not all of the list\n"},
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

func TestYAMLIsThatOfTheCommonLibrary(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	numbers := []float64{0, -1, 1e6, 1e20, 1e21, 1.5, -0.000001, 12345678901234567890, math.MaxFloat64, math.SmallestNonzeroFloat64}
	for range 300 {
		v := map[string]any{words(r): words(r), "list": []any{words(r), numbers[r.IntN(len(numbers))], nil, true, map[string]any{}, []any{}},
			"10": uint64(math.MaxUint64), "9": int64(math.MinInt64), "on": words(r), "a1": 1, "a10": 2, "a2": 3}
		want, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got, err := marshalYAML(v)
		if diff := cmp.Diff(string(want), string(got)); err != nil || diff != "" {
			t.Fatalf("error %v\n%s", err, diff)
		}
	}
}

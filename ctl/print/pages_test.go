package print

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/margay-project/margay/api"
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
		whole := Result{Kind: "GlobalNetworkPolicy", List: true, Objects: objects, Revision: "77"}.value()
		for name, f := range map[string]struct {
			format  Format
			marshal func(any) ([]byte, error)
		}{"yaml": {yamlFormat{}, yaml.Marshal}, "json": {jsonFormat{}, marshalJSON}} {
			want, err := f.marshal(whole)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			p, err := f.format.Pages(&got, "GlobalNetworkPolicy", nil)
			if err != nil {
				t.Fatal(err)
			}
			for at, n := 0, 0; at == 0 || at < count; at += max(n, 1) {
				n = min(count-at, 1+r.IntN(20))
				if err := p.Page(objects[at:at+n], "77"); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.End(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s, %d objects:\n%s", name, len(objects), diff)
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
		got, err := api.MarshalYAML(v)
		if diff := cmp.Diff(string(want), string(got)); err != nil || diff != "" {
			t.Fatalf("error %v\n%s", err, diff)
		}
	}
}

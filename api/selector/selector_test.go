package selector

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t testing.TB, text string) *Selector {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestErrorsNameTheColumnAndWhatWasExpected(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`role = "db"`:            `column 6: want an operator: ==, !=, in, not in, contains, starts with or ends with`,
		`role == db`:             `column 9: want a value in quotes`,
		`role == "db`:            `column 9: want a value that ends with the quote it begins with`,
		`ä`:                      `column 1: want a label, has(LABEL), all() or "("`,
		`a == "ä" & b == "c"`:    `column 10: want "&&", "||" or the end`,
		`(has(a)`:                `column 8: want "&&", "||" or ")"`,
		`has(a) &&`:              `column 10: want a label, has(LABEL), all() or "("`,
		`has()`:                  `column 5: want a label`,
		`a in "b"`:               `column 6: want a set such as {"a", "b"}`,
		`a in {"b" "c"}`:         `column 11: want "," or "}"`,
		`all(x)`:                 `column 5: want ")"`,
		"has(a)\n":               `column 7: want "&&", "||" or the end`,
		strings.Repeat("x", 513): `column 1: want a label of at most 512 characters`,
	} {
		_, err := Parse(text)
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
		if wrong := new(Error); err != nil && !errors.As(err, &wrong) {
			t.Errorf("%q: not an *Error", text)
		}
	}
}

func TestDeepTextIsRefusedAndDoesNotOverflow(t *testing.T) {
	t.Parallel()
	million := 1 << 20
	deep := map[string]string{
		"parentheses":        strings.Repeat("(", million),
		"closed parentheses": strings.Repeat("(", million/2) + "all()" + strings.Repeat(")", million/2),
		"negations":          strings.Repeat("!(", million/2),
		"groups":             strings.Repeat("(has(a)||has(b)&&", 200) + "has(c)" + strings.Repeat(")", 200),
	}
	for name, text := range deep {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), "256 parentheses") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !mustParse(t, strings.Repeat("!", million)+"has(a)").Matches(Map{"a": ""}) {
		t.Error("an even number of negations changes nothing")
	}
}

func TestRewriteForNamespaces(t *testing.T) {
	t.Parallel()
	inNamespace := Has("projectcalico.org/namespace")
	r := Rewriting{Prefix: "pcns.", All: inNamespace, Global: Not(inNamespace)}
	for text, want := range map[string]string{
		`env == "prod" && team not in {"a"}`: `(pcns.env == "prod" && pcns.team not in {"a"})`,
		`all()`:                              `has(projectcalico.org/namespace)`,
		`global()`:                           `!has(projectcalico.org/namespace)`,
		`!has(x) || y starts with "z"`:       `(!has(pcns.x) || pcns.y starts with "z")`,
	} {
		if got := mustParse(t, text).Rewrite(r).String(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestBuiltSelectorsReadBack(t *testing.T) {
	t.Parallel()
	either := mustParse(t, `has(a) || has(b)`)
	for want, s := range map[string]*Selector{
		`all()`:                                 And(),
		`has(a)`:                                And(All(), Has("a")),
		`((has(a) || has(b)) && c == "d")`:      And(either, Equal("c", "d")),
		`(has(a) && has(b) && c in {"1", "2"})`: And(And(Has("a"), Has("b")), In("c", "2", "1", "2")),
		`!(has(a) || has(b))`:                   Not(either),
		`(has(a) || has(b))`:                    Not(Not(either)),
	} {
		if s.String() != want {
			t.Errorf("%s, want %s", s, want)
		}
		if again := mustParse(t, s.String()); again.String() != want {
			t.Errorf("%s reads back as %s", want, again)
		}
	}
}

func TestQuestionsAboutGlobalAndAll(t *testing.T) {
	t.Parallel()
	s := mustParse(t, `has(a) && !(global() || has(b))`)
	if !s.UsesGlobal() || s.IsGlobal() || s.IsAll() || mustParse(t, "has(global)").UsesGlobal() {
		t.Error(s)
	}
	if !mustParse(t, " (global())").IsGlobal() || !mustParse(t, "").IsAll() {
		t.Error("the whole selector is global(), or all()")
	}
}

func TestRestrictions(t *testing.T) {
	t.Parallel()
	is := func(label string, values ...string) Restriction {
		return Restriction{label, append([]string{}, values...)}
	}
	there := func(label string) Restriction { return Restriction{Label: label} }
	for text, want := range map[string][]Restriction{
		`all()`:                                  nil,
		`a == "1"`:                               {is("a", "1")},
		`!(a != "1")`:                            {is("a", "1")},
		`a != "1"`:                               nil,
		`a in {"2", "1"} && has(b)`:              {is("a", "1", "2"), there("b")},
		`a in {"1", "2"} && a in {"2", "3"}`:     {is("a", "2")},
		`a in {"1"} && a contains "1"`:           {is("a", "1")},
		`a in {}`:                                {is("a")},
		`a == "1" || a == "2" && has(b)`:         {is("a", "1", "2")},
		`a == "1" || has(a)`:                     {there("a")},
		`a == "1" || b == "1"`:                   nil,
		`a == "1" || !all()`:                     {is("a", "1")},
		`!(a not in {"1"} || b starts with "x")`: {is("a", "1")},
		`a ends with "x" && !has(b)`:             {there("a")},
	} {
		got, _ := mustParse(t, text).Restrictions()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", text, diff)
		}
	}
	for text, want := range map[string]bool{`a in {}`: true, `!all()`: true, `a == "1" && a == "2"`: true, `!has(a)`: false, `!all() || a in {}`: true} {
		if _, never := mustParse(t, text).Restrictions(); never != want {
			t.Errorf("%s never: want %v", text, want)
		}
	}
}

// Labels that match a selector meet its restrictions. A selector with never set matches nothing.
func TestRestrictionsHoldForEveryMatch(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	matched := 0
	for range 20000 {
		s, labels := newSelector(randomNode(random, 4)), randomLabels(random)
		if !s.Matches(labels) {
			continue
		}
		matched++
		needs, never := s.Restrictions()
		if never {
			t.Fatalf("seed %d: %s matches %v but never should", seed, s, labels)
		}
		for _, r := range needs {
			value, ok := labels[r.Label]
			if !ok || r.Values != nil && !contains(r.Values, value) {
				t.Fatalf("seed %d: %s matches %v without %v", seed, s, labels, r)
			}
		}
	}
	if matched < 2000 {
		t.Fatalf("seed %d: only %d matches say little", seed, matched)
	}
}

func randomLabels(r *rand.Rand) Map {
	labels := Map{}
	for _, l := range "abc" {
		if r.IntN(3) > 0 {
			labels[string(l)] = fmt.Sprint(r.IntN(3))
		}
	}
	return labels
}

func randomNode(r *rand.Rand, depth int) node {
	label, value := string("abc"[r.IntN(3)]), fmt.Sprint(r.IntN(3))
	if depth > 0 {
		switch r.IntN(4) {
		case 0:
			return not{randomNode(r, depth-1)}
		case 1:
			return group{and, []node{randomNode(r, depth-1), randomNode(r, depth-1)}}
		case 2:
			return group{or, []node{randomNode(r, depth-1), randomNode(r, depth-1), randomNode(r, depth-1)}}
		}
	}
	switch r.IntN(6) {
	case 0:
		return all{}
	case 1:
		return has{label}
	case 2:
		return newMember(label, r.IntN(2) == 0, []string{value, "1"}[:r.IntN(3)])
	}
	ops := []comparison{equal, unequal, substring, starts, ends}
	return compare{label, ops[r.IntN(len(ops))], value}
}

func contains(values []string, v string) bool {
	return strings.Contains(","+strings.Join(values, ",")+",", ","+v+",")
}

// plain drops doubled negations.
func plain(n node) node {
	switch n := n.(type) {
	case not:
		return negate(plain(n.of))
	case group:
		parts := make([]node, len(n.parts))
		for i, p := range n.parts {
			parts[i] = plain(p)
		}
		return group{n.op, parts}
	}
	return n
}

func FuzzParsePrintParse(f *testing.F) {
	for _, v := range corpus(f) {
		f.Add(v.Selector)
	}
	f.Fuzz(func(t *testing.T, source string) {
		s, err := Parse(source)
		if err != nil {
			_ = err.Error()
			return
		}
		again, err := Parse(s.String())
		if err != nil {
			t.Fatalf("%q prints as %q: %v", source, s, err)
		}
		if want := text(plain(s.root)); again.String() != want {
			t.Fatalf("%q prints as %q, which prints as %q, want %q", source, s, again, want)
		}
		labels := Map{"a": "b", "role": "web", "env": "", "has": "x"}
		if s.Matches(labels) != again.Matches(labels) {
			t.Fatalf("%q and %q match differently", s, again)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	labels := Map{"role": "db", "env": "prod", "zone": "a", "team": "storage"}
	for _, text := range []string{`role == "db"`, `role == "db" && env in {"prod", "stage"} && !has(debug) || zone starts with "b"`} {
		s := mustParse(b, text)
		b.Run(fmt.Sprintf("%dterms", strings.Count(text, "&&")+1), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !s.Matches(labels) {
					b.Fatal(text)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(`role == "db" && env in {"prod", "stage"} && !has(debug) || zone starts with "b"`); err != nil {
			b.Fatal(err)
		}
	}
}

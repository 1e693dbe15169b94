package selector

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// reading is the result of the slow reader for a selector.
type reading struct {
	matches   bool
	canonical string
}

// read evaluates a selector without a parser. It cuts the text at each || outside of quotes and parentheses, then at each &&, until
// only one condition is left.
func (s slowReader) read(text string, labels Map) (reading, bool) {
	text = strings.Trim(text, " \t")
	if text == "" {
		return reading{true, "all()"}, true
	}
	return s.part(text, labels)
}

func (s slowReader) part(text string, labels Map) (reading, bool) {
	for _, op := range []string{"||", "&&"} {
		if parts := cutOutside(text, op); len(parts) > 1 {
			return s.parts(parts, op, labels)
		}
	}
	text = strings.Trim(text, " \t")
	if rest, negated := strings.CutPrefix(text, "!"); negated {
		return s.negated(rest, labels)
	}
	if strings.HasPrefix(text, "(") && strings.HasSuffix(text, ")") && text != "()" {
		return s.part(text[1:len(text)-1], labels)
	}
	return s.condition(text, labels)
}

func (s slowReader) parts(parts []string, op string, labels Map) (reading, bool) {
	all, any, texts := true, false, []string{}
	for _, p := range parts {
		r, ok := s.part(p, labels)
		if !ok {
			return reading{}, false
		}
		all, any, texts = all && r.matches, any || r.matches, append(texts, r.canonical)
	}
	return reading{op == "&&" && all || op == "||" && any, "(" + strings.Join(texts, " "+op+" ") + ")"}, true
}

// negated drops pairs of ! that stand next to each other.
func (s slowReader) negated(rest string, labels Map) (reading, bool) {
	rest = strings.Trim(rest, " \t")
	if inner, twice := strings.CutPrefix(rest, "!"); twice {
		return s.part(inner, labels)
	}
	r, ok := s.part(rest, labels)
	return reading{!r.matches, "!" + r.canonical}, ok
}

// cutOutside cuts at each op that is neither in quotes nor in parentheses.
func cutOutside(text, op string) (parts []string) {
	depth, quote, start := 0, byte(0), 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '(':
			depth++
		case c == ')':
			depth--
		case depth == 0 && strings.HasPrefix(text[i:], op):
			parts = append(parts, text[start:i])
			start = i + len(op)
			i++
		}
	}
	return append(parts, text[start:])
}

// slowReader has the patterns of conditions. In these patterns ~ stands for any number of blanks and # for at least one.
type slowReader struct {
	all, global, has, in *regexp.Regexp
	compare              []slowOperator
}

type slowOperator struct {
	name    string
	pattern *regexp.Regexp
	absent  bool // what it is for a label that is not there
	holds   func(value, than string) bool
}

func newSlowReader() slowReader {
	const label, quoted = `([A-Za-z0-9_./-]+)`, `("[^"]*"|'[^']*')`
	pattern := func(text string) *regexp.Regexp {
		return regexp.MustCompile(`^(?s:` + strings.NewReplacer("~", "[ \t]*", "#", "[ \t]+").Replace(text) + `)$`)
	}
	return slowReader{
		all: pattern(`all\(~\)`), global: pattern(`global\(~\)`), has: pattern(`has\(~` + label + `~\)`),
		in: pattern(label + `#(in|not#in|notin)~\{(~|~` + quoted + `(~,~` + quoted + `)*~(,~)?)\}`),
		compare: []slowOperator{
			{"==", pattern(label + `~==~` + quoted), false, func(v, w string) bool { return v == w }},
			{"!=", pattern(label + `~!=~` + quoted), true, func(v, w string) bool { return v != w }},
			{"contains", pattern(label + `#contains~` + quoted), false, strings.Contains},
			{"starts with", pattern(label + `#starts(?:#)?with~` + quoted), false, strings.HasPrefix},
			{"ends with", pattern(label + `#ends(?:#)?with~` + quoted), false, strings.HasSuffix},
		},
	}
}

func (s slowReader) condition(text string, labels Map) (reading, bool) {
	if s.all.MatchString(text) {
		return reading{true, "all()"}, true
	}
	if s.global.MatchString(text) {
		return reading{true, "global()"}, true
	}
	if m := s.has.FindStringSubmatch(text); m != nil {
		_, there := labels[m[1]]
		return reading{there, "has(" + m[1] + ")"}, true
	}
	for _, o := range s.compare {
		if m := o.pattern.FindStringSubmatch(text); m != nil {
			value, there := labels[m[1]]
			return reading{there && o.holds(value, m[2][1:len(m[2])-1]) || !there && o.absent, m[1] + " " + o.name + " " + requote(m[2])}, true
		}
	}
	if m := s.in.FindStringSubmatch(text); m != nil {
		return readSet(m[1], m[2] != "in", m[3], labels), true
	}
	return reading{}, false
}

func readSet(label string, out bool, members string, labels Map) reading {
	var values []string
	for _, q := range regexp.MustCompile(`(?s)"[^"]*"|'[^']*'`).FindAllString(members, -1) {
		values = append(values, q[1:len(q)-1])
	}
	slices.Sort(values)
	values = slices.Compact(values)
	value, there := labels[label]
	var texts []string
	for _, v := range values {
		texts = append(texts, requote("'"+v+"'"))
	}
	word := " in {"
	if out {
		word = " not in {"
	}
	return reading{(there && slices.Contains(values, value)) != out, label + word + strings.Join(texts, ", ") + "}"}
}

func requote(quoted string) string {
	value := quoted[1 : len(quoted)-1]
	if strings.Contains(value, `"`) {
		return "'" + value + "'"
	}
	return `"` + value + `"`
}

// The parser and the slow reader agree whether a text is a selector, which labels it matches, and on its canonical text, which is
// read as the same selector.
func TestTheParserAgreesWithTheSlowReader(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	w := writer{rand.New(rand.NewPCG(seed, 1))}
	slow, valid, invalid, matched := newSlowReader(), 0, 0, 0
	for range 20000 {
		source, labels := w.selector(4), w.labels()
		if w.IntN(2) == 0 {
			source = w.damage(source)
		}
		want, ok := slow.read(source, labels)
		s, err := Parse(source)
		if (err == nil) != ok {
			t.Fatalf("seed %d: %q: error %v, slowly read %v", seed, source, err, ok)
		}
		if err != nil {
			invalid++
			continue
		}
		valid++
		if s.String() != want.canonical || s.Matches(labels) != want.matches {
			t.Fatalf("seed %d: %q on %v is %q %v, slowly read %q %v", seed, source, labels, s, s.Matches(labels), want.canonical, want.matches)
		}
		again, ok := slow.read(s.String(), labels)
		reparsed, err := Parse(s.String())
		if !ok || err != nil || again.matches != want.matches || reparsed.Matches(labels) != want.matches {
			t.Fatalf("seed %d: %q of %q reads otherwise: %v", seed, s, source, err)
		}
		if want.matches {
			matched++
		}
	}
	if valid < 5000 || invalid < 2000 || matched < 1000 || valid-matched < 1000 {
		t.Errorf("seed %d: %d valid, %d of them matched, %d invalid: that says little", seed, valid, matched, invalid)
	}
}

// writer writes random selectors in every way that the language allows.
type writer struct{ *rand.Rand }

func (w writer) one(of ...string) string { return of[w.IntN(len(of))] }
func (w writer) blanks() string          { return w.one("", "", " ", "  ", "\t", " \t ") }
func (w writer) gap() string             { return w.one(" ", "\t", "  ") }

func (w writer) label() string {
	return w.one("a", "b", "a.b/c-d_1", "in", "has", "all", "not", "contains", "-", "/", "global")
}

func (w writer) value() string {
	return w.one("", "x", "y", "xy", "x y", "ä€𝄞", "&&", "(", ")", "{}", "||", "in", "\\", "\n")
}

func (w writer) quoted() string {
	v := w.value()
	switch w.IntN(8) {
	case 0:
		return `'` + v + `"'`
	case 1:
		return `"` + v + `'"`
	}
	q := w.one(`"`, `'`)
	return q + v + q
}

func (w writer) selector(depth int) string {
	if depth > 0 {
		switch w.IntN(5) {
		case 0:
			return "!" + w.blanks() + w.inner(depth-1)
		case 1:
			return w.inner(depth-1) + w.blanks() + w.one("&&", "||") + w.blanks() + w.inner(depth-1)
		case 2:
			return w.selector(depth-1) + w.one("&&", "||", " && ", " || ") + w.selector(depth-1)
		case 3:
			return "(" + w.blanks() + w.selector(depth-1) + w.blanks() + ")"
		}
	}
	return w.blanks() + w.condition() + w.blanks()
}

func (w writer) inner(depth int) string {
	if w.IntN(2) == 0 {
		return "(" + w.selector(depth) + ")"
	}
	return w.selector(depth)
}

func (w writer) condition() string {
	switch w.IntN(8) {
	case 0:
		return w.one("all(", "global(") + w.blanks() + ")"
	case 1:
		return "has(" + w.blanks() + w.label() + w.blanks() + ")"
	case 2, 3:
		op := w.one("in", "notin", "not"+w.gap()+"in")
		return w.label() + w.gap() + op + w.blanks() + w.set()
	case 4, 5:
		op := w.one("contains", "startswith", "starts"+w.gap()+"with", "endswith", "ends"+w.gap()+"with")
		return w.label() + w.gap() + op + w.blanks() + w.quoted()
	}
	return w.label() + w.blanks() + w.one("==", "!=") + w.blanks() + w.quoted()
}

func (w writer) set() string {
	text := "{" + w.blanks()
	for range w.IntN(4) {
		text += w.quoted() + w.blanks() + "," + w.blanks()
	}
	if strings.HasSuffix(strings.TrimRight(text, " \t"), ",") && w.IntN(3) > 0 { // a comma at the end is allowed
		text = strings.TrimSuffix(strings.TrimRight(text, " \t"), ",")
	}
	return text + "}"
}

func (w writer) labels() Map {
	labels := Map{}
	for range w.IntN(6) {
		labels[w.label()] = w.value()
	}
	return labels
}

// damage changes, drops, doubles or swaps a few bytes.
func (w writer) damage(text string) string {
	const bytes = " \t\n\"'(){}!&|=,ax-\x00%"
	b := []byte(text)
	for range 1 + w.IntN(2) {
		if len(b) < 2 {
			return string(b)
		}
		i := w.IntN(len(b) - 1)
		switch w.IntN(4) {
		case 0:
			b[i] = bytes[w.IntN(len(bytes))]
		case 1:
			b = slices.Delete(b, i, i+1)
		case 2:
			b = slices.Insert(b, i, b[i])
		case 3:
			b[i], b[i+1] = b[i+1], b[i]
		}
	}
	return string(b)
}

// Limits of the language: names of 512 characters, 256 parentheses, text of any length.
func TestLimitsOfTheLanguage(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("(", n) + "has(a)" + strings.Repeat(")", n) }
	for text, valid := range map[string]bool{
		strings.Repeat("x", 512) + ` == "a"`:                 true,
		strings.Repeat("x", 513) + ` == "a"`:                 false,
		"has(" + strings.Repeat("x", 512) + ")":              true,
		"has(" + strings.Repeat("x", 513) + ")":              false,
		nested(256):                                          true,
		nested(257):                                          false,
		fmt.Sprintf(`a == "%s"`, strings.Repeat("ä", 1<<20)): true,
		strings.Repeat("has(a) && ", 10000) + "has(b)":       true,
	} {
		if _, err := Parse(text); (err == nil) != valid {
			t.Errorf("%.40s (%d bytes): %.200v", text, len(text), err)
		}
	}
}

package api

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// derived is one line of testdata/derived.txt.
type derived struct {
	line     int
	manifest string
	field    string // that the error names; empty if the manifest is valid
}

func TestRulesOfTheDialectAtTheirBounds(t *testing.T) {
	t.Parallel()
	cases := derivedCases(t)
	told := regexp.MustCompile(`want |did you mean |missing: |remove |want one of |unknown field |given twice|is always |must stand alone|only `)
	for _, c := range cases {
		valid, reason := accepted(c.manifest)
		shown := c.manifest
		if len(shown) > 300 {
			shown = shown[:300] + "..."
		}
		switch {
		case valid != (c.field == ""):
			t.Errorf("line %d: valid %v %s\n%s", c.line, valid, reason, shown)
		case c.field != "" && !strings.Contains(reason, c.field):
			t.Errorf("line %d: the error does not name %s: %.300s\n%s", c.line, c.field, reason, shown)
		case c.field != "" && !told.MatchString(reason):
			t.Errorf("line %d: the error does not say what is valid: %.300s", c.line, reason)
		}
	}
	t.Logf("%d manifests", len(cases))
}

func derivedCases(t *testing.T) (cases []derived) {
	t.Helper()
	text, err := os.ReadFile("testdata/derived.txt")
	if err != nil {
		t.Fatal(err)
	}
	template := ""
	for i, line := range strings.Split(string(text), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		c := derived{line: i + 1}
		switch word {
		case "", "#":
			continue
		case "==":
			kind, body, _ := strings.Cut(rest, " ")
			template = fmt.Sprintf("{apiVersion: projectcalico.org/v3, kind: %s, %s}", kind, body)
			continue
		case "ok":
		case "no":
			c.field, rest, _ = strings.Cut(rest, " ")
		default:
			t.Fatalf("line %d: want ==, ok or no", i+1)
		}
		c.manifest = repeated(strings.Replace(template, "@", rest, 1))
		cases = append(cases, c)
	}
	return cases
}

// repeated writes <text*3> out.
func repeated(text string) string {
	return regexp.MustCompile(`<([^<>]+)\*(\d+)>`).ReplaceAllStringFunc(text, func(found string) string {
		at := strings.LastIndex(found, "*")
		n, _ := strconv.Atoi(found[at+1 : len(found)-1])
		return strings.Repeat(found[1:at], n)
	})
}

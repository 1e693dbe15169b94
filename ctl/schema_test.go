package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
)

// The texts of the reference and of the command schema come from comments; a field without one has no text.
func TestEveryFieldHasAMeaning(t *testing.T) {
	t.Parallel()
	var visit func(schemaElement)
	visit = func(e schemaElement) {
		name := e.path[len(e.path)-1]
		if len(e.path) > 2 && e.meaning() == "" && name != "spec" && name != "status" {
			t.Errorf("%s (%s) has no comment", strings.Join(e.path, "."), e.key)
		}
		for _, inner := range e.fields() {
			visit(inner)
		}
	}
	for _, kind := range api.Kinds() {
		if kind.Name == "KubeControllersConfiguration" {
			continue // means nothing here as a whole
		}
		visit(elementOf(kind))
	}
}

// The description of what is valid comes from refusals, and must not sound like one.
func TestValidValuesAreDescribedNotRefused(t *testing.T) {
	t.Parallel()
	refusal := regexp.MustCompile(`^not\b|\b(missing|want|remove|add|error)\b`)
	var visit func(api.Kind, schemaElement)
	visit = func(kind api.Kind, e schemaElement) {
		for _, text := range validTexts(kind, e) {
			if refusal.MatchString(text) {
				t.Errorf("%s: valid: %s", strings.Join(e.path, "."), text)
			}
		}
		for _, inner := range e.fields() {
			visit(kind, inner)
		}
	}
	for _, kind := range api.Kinds() {
		visit(kind, elementOf(kind))
	}
}

// The page of all kinds shows what most of them have; the label of the tier is on the pages of those that get it.
func TestThePageOfAKindShowsTheMetadataOfItsOwn(t *testing.T) {
	t.Parallel()
	label := "| `metadata.labels` | map of text to text | {\"projectcalico.org/tier\":\"default\"}"
	if strings.Contains(kindsPage(), label) {
		t.Error("the page of all kinds has the label of the tier")
	}
	for _, kind := range api.Kinds() {
		o := kind.New()
		api.Default(o)
		_, want := o.Meta().Labels[api.TierLabel]
		if got := strings.Contains(kindPage(kind), label); got != want {
			t.Errorf("%s shows the label of the tier: %v, want %v", kind.Name, got, want)
		}
	}
}

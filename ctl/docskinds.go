package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// writeKinds writes a page for each kind, and one that lists them.
func writeKinds(directory string) error {
	pages := map[string]string{"README.md": kindsPage(), "rule.md": rulePage()}
	for _, kind := range api.Kinds() {
		pages[kindFile(kind)] = kindPage(kind)
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func kindFile(k api.Kind) string { return strings.ToLower(k.Name) + ".md" }

func elementOf(kind api.Kind) schemaElement {
	return schemaElement{path: []string{kind.Name}, typ: reflect.TypeOf(kind.New()).Elem()}
}

// kindsPage lists the kinds, and what all of them have.
func kindsPage() string {
	out := new(strings.Builder)
	fmt.Fprint(out, "# Kinds\n\nMade by `margayctl docs reference` from the types and their validation; `margayctl schema KIND.FIELD` says the same.\n\n"+
		"| kind | names for the command line | scope | |\n|---|---|---|---|\n")
	for _, k := range api.Kinds() {
		fmt.Fprintf(out, "| [%s](%s) | %s | %s | %s |\n", k.Name, kindFile(k), strings.Join(append([]string{k.Plural}, k.Aliases...), ", "),
			scopeText(k), tableText(elementOf(k).meaning()))
	}
	fmt.Fprintf(out, "\n## What all kinds have\n\nA manifest begins with `apiVersion: %s` and the kind.\n\n", api.APIVersion)
	fmt.Fprint(out, fieldsHead)
	writeFields(out, plainKind(), elementOf(plainKind()).fields(), "kind", "apiVersion", "spec", "status")
	return out.String()
}

// plainKind is one whose metadata is as that of most kinds.
func plainKind() api.Kind {
	k, _ := api.KindOf(api.KindNetworkSet)
	return k
}

// ownMetadata are the fields of the metadata that have another default or other valid values in a kind than in most.
func ownMetadata(k api.Kind) (own []schemaElement) {
	usual, _ := elementOf(plainKind()).field("metadata")
	metadata, _ := elementOf(k).field("metadata")
	for i, field := range metadata.fields() {
		name := field.path[len(field.path)-1]
		same := defaultText(k, field.index) == defaultText(plainKind(), usual.fields()[i].index) &&
			slices.Equal(validTexts(k, field), validTexts(plainKind(), usual.fields()[i]))
		if !same && (name != "namespace" || k.Namespaced) && !k.ReadOnly {
			own = append(own, field)
		}
	}
	return own
}

func scopeText(k api.Kind) string {
	scope := "global"
	if k.Namespaced {
		scope = "namespace"
	}
	if k.ReadOnly {
		scope += ", read-only"
	}
	return scope
}

// rulePage has the fields of a rule, which many kinds have; each of their pages would be hidden behind them.
func rulePage() string {
	out := new(strings.Builder)
	k, _ := api.KindOf(api.KindGlobalNetworkPolicy)
	rules, _ := elementOf(k).field("ingress")
	fmt.Fprintf(out, "# Rule\n\n%s\n\n", rules.typeMeaning())
	fmt.Fprint(out, fieldsHead)
	writeFields(out, k, rules.fields())
	return out.String()
}

func kindPage(k api.Kind) string {
	out := new(strings.Builder)
	e := elementOf(k)
	fmt.Fprintf(out, "# %s\n\n%s\n\n", k.Name, e.meaning())
	fmt.Fprintf(out, "Scope: %s. On the command line also: %s.\n\n", scopeText(k), strings.Join(append([]string{k.Plural}, k.Aliases...), ", "))
	fmt.Fprint(out, "The default is what is stored for a field that a manifest leaves out. `[]` is each element of a list. "+
		"What all kinds have is on the [first page](README.md); where this kind differs from most, its rows come first.\n\n")
	fmt.Fprint(out, fieldsHead)
	for _, f := range ownMetadata(k) {
		writeField(out, k, "metadata.", f)
	}
	writeFields(out, k, e.fields(), "kind", "apiVersion", "metadata")
	return out.String()
}

const fieldsHead = "| field | type | default | meaning | valid |\n|---|---|---|---|---|\n"

// writeFields writes rows for fields, but for those at the top that are left out.
func writeFields(out *strings.Builder, k api.Kind, fields []schemaElement, leaveOut ...string) {
	for _, e := range fields {
		if !slices.Contains(leaveOut, e.path[1]) {
			writeField(out, k, "", e)
		}
	}
}

// writeField writes a row for a field and one for each field within.
func writeField(out *strings.Builder, k api.Kind, prefix string, e schemaElement) {
	path := prefix + e.path[len(e.path)-1]
	if bare(e.typ) == reflect.TypeFor[api.Rule]() {
		fmt.Fprintf(out, "| `%s` | list of [rules](rule.md) |  | %s | |\n", path, tableText(e.meaning()))
		return
	}
	fmt.Fprintf(out, "| `%s` | %s | %s | %s | %s |\n", path, tableText(typeText(e.typ)), tableText(defaultText(k, e.index)), tableText(e.meaning()),
		tableText(strings.Join(validTexts(k, e), "; ")))
	if isList(e.typ) {
		path += "[]"
	}
	for _, inner := range e.fields() {
		writeField(out, k, path+".", inner)
	}
}

func isList(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Slice
}

// tableText is a text that does not end its cell of a table.
func tableText(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

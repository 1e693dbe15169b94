package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
)

//go:generate go run ./fieldtext ../api fields.txt
//go:generate go run . docs reference ../docs/reference

// fieldTexts holds the doc comments of the types in package api. The program fieldtext writes it.
//
//go:embed fields.txt
var fieldTexts string

func newSchema(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "schema KIND[.FIELD...]",
		Short: "Explain a kind or a field: its meaning, type, default and valid values",
		Long: `Explain a kind or a field: its meaning, type, default and valid values.

The default is stored when a manifest leaves the field out. The path may leave out spec. The datastore is not asked.`,
		Example: `  margayctl schema gnp
  margayctl schema gnp.ingress.destination
  margayctl schema felixconfiguration.spec.bpfLogLevel`,
		Args: arguments.Exactly(1, "KIND or KIND.FIELD"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return kindWords(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return s.schema(args[0])
		},
	}
}

func (s *session) schema(text string) error {
	name, path, _ := strings.Cut(text, ".")
	kind, ok := api.KindOf(name)
	if !ok {
		return unknownKind(name)
	}
	element := elementOf(kind)
	if path != "" {
		for _, word := range strings.Split(path, ".") {
			inner, err := element.field(word)
			if err != nil {
				return err
			}
			element = inner
		}
	}
	s.printSchema(kind, element)
	return nil
}

// printSchema prints the meaning, type, default and valid values of an element, and one line for each of its fields.
func (s *session) printSchema(kind api.Kind, e schemaElement) {
	out := new(strings.Builder)
	t := tabwriter.NewWriter(out, 0, 1, 2, ' ', 0)
	defer func() {
		t.Flush()
		for line := range strings.Lines(out.String()) {
			fmt.Fprintln(s.stdout, strings.TrimRight(line, " \n"))
		}
	}()
	line := func(heading, text string) {
		if text != "" {
			fmt.Fprintf(t, "%s:\t%s\n", heading, text)
		}
	}
	line("NAME", strings.Join(e.path, "."))
	line("MEANING", e.meaning())
	line("TYPE", typeText(e.typ))
	if len(e.path) > 1 {
		line("DEFAULT", defaultText(kind, e.index))
		line("VALID", strings.Join(validTexts(kind, e), "; "))
	}
	if slices.Equal(e.path[1:], []string{"metadata", "annotations"}) {
		for _, a := range api.Annotations() {
			if a.Kind == kind.Name {
				line(a.Name, a.Meaning)
			}
		}
	}
	fields := e.fields()
	if len(fields) == 0 {
		return
	}
	t.Flush()
	fmt.Fprintln(out, "\nFIELDS:")
	if len(e.path) == 1 {
		for _, f := range fields {
			if f.path[1] == "spec" {
				fields = append(fields, f.fields()...)
			}
		}
	}
	for _, f := range fields {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", strings.Join(f.path[len(e.path):], "."), typeText(f.typ), f.meaning())
	}
}

// schemaElement is a kind or a field of it.
type schemaElement struct {
	path  []string // the kind, then the name of each field on the way
	index [][]int  // for each field on the way, its index in the struct before it
	key   string   // of its text: TYPE.FIELD
	typ   reflect.Type
}

// meaning returns the doc comment of the field, or else of its type.
func (e schemaElement) meaning() string { return cmp.Or(textOf(e.key), e.typeMeaning()) }

func (e schemaElement) typeMeaning() string { return textOf(bare(e.typ).Name()) }

// textOf returns the doc comment of a TYPE or TYPE.FIELD; empty if there is none.
func textOf(key string) string {
	for line := range strings.Lines(fieldTexts) {
		if text, ok := strings.CutPrefix(line, key+"\t"); ok && key != "" {
			return strings.TrimSpace(text)
		}
	}
	return ""
}

// field finds a field by its name, in upper or lower case. For a kind it also finds the fields of spec.
func (e schemaElement) field(word string) (schemaElement, error) {
	var names []string
	fields := e.fields()
	if len(e.path) == 1 {
		for _, f := range fields {
			if f.path[1] == "spec" {
				fields = append(fields, f.fields()...)
			}
		}
	}
	for _, f := range fields {
		name := f.path[len(f.path)-1]
		if strings.EqualFold(name, word) {
			return f, nil
		}
		names = append(names, name)
	}
	err := fmt.Errorf("%s has no field %q", strings.Join(e.path, "."), word)
	return e, hints.With(err, hints.DidYouMean(word, names), "see margayctl schema "+strings.Join(e.path, "."))
}

// fields returns the fields of an element, or of the elements of a list, under their names in manifests.
func (e schemaElement) fields() []schemaElement {
	t := bare(e.typ)
	if t.Kind() != reflect.Struct || readsItself(t) {
		return nil
	}
	var all []schemaElement
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := schemaElement{
			path:  append(append([]string{}, e.path...), name),
			index: append(append([][]int{}, e.index...), f.Index),
			key:   t.Name() + "." + f.Name,
			typ:   f.Type,
		}
		switch {
		case name == "" && f.Anonymous: // its fields belong to the struct around it
			inner.path = e.path
			all = append(all, inner.fields()...)
		case name != "" && name != "-" && f.IsExported():
			all = append(all, inner)
		}
	}
	return all
}

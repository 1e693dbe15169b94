package main

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
)

// result is what one KIND or NAME gave: an object, or a list.
type result struct {
	kind     string
	list     bool
	objects  []api.Object
	revision string // of the list
}

// objectList is the wire form of a list.
type objectList struct {
	Kind       string       `json:"kind"`
	APIVersion string       `json:"apiVersion"`
	Metadata   listMetadata `json:"metadata"`
	Items      []api.Object `json:"items"`
}

// ListMeta is the name of the metadata in templates that were written for calicoctl.
func (l objectList) ListMeta() listMetadata { return l.Metadata }

type listMetadata struct {
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

func (r result) value() any {
	if !r.list {
		return r.objects[0]
	}
	items := r.objects
	if items == nil {
		items = []api.Object{}
	}
	return objectList{r.kind + "List", api.APIVersion, listMetadata{r.revision}, items}
}

// strip takes away what ties an object to one datastore.
func (r result) strip() {
	for _, o := range r.objects {
		m := o.Meta()
		m.Namespace, m.UID, m.ResourceVersion = "", "", ""
		m.CreationTimestamp, m.DeletionTimestamp, m.DeletionGracePeriodSeconds = api.Time{}, nil, nil
	}
}

// format prints results. asNumber is asked only when a node inherits its AS number.
type format interface {
	print(w io.Writer, results []result, asNumber func() string) error
	// pages prints what print does of one list, which is not there as a whole.
	pages(w io.Writer, kind string, asNumber func() string) (pages, error)
}

func parseFormat(output string, at place) (format, error) {
	namespaces := at.all || at.namespace != ""
	key, value, _ := strings.Cut(output, "=")
	switch {
	case output == "ps":
		return tableFormat{namespaces: namespaces}, nil
	case output == "wide":
		return tableFormat{namespaces: namespaces, wide: true}, nil
	case output == "yaml" || output == "yml":
		return yamlFormat{}, nil
	case output == "json":
		return jsonFormat{}, nil
	case key == "custom-columns" && value == "":
		return nil, fmt.Errorf("need to specify at least one column")
	case key == "custom-columns":
		return tableFormat{namespaces: namespaces, headings: strings.Split(value, ",")}, nil
	case key == "go-template" && value == "":
		return nil, fmt.Errorf("need to specify a template")
	case key == "go-template":
		return templateFormat{text: value}, nil
	case key == "go-template-file" && value == "":
		return nil, fmt.Errorf("need to specify a template file")
	case key == "go-template-file":
		text, err := os.ReadFile(value)
		return templateFormat{text: string(text)}, err
	}
	return nil, hints.With(fmt.Errorf("unrecognized output format '%s'", output), hints.DidYouMean(key, formatNames()),
		"formats: ps, wide, yaml, json, custom-columns=..., go-template=..., go-template-file=...")
}

func formatNames() []string {
	return []string{"ps", "wide", "yaml", "json", "custom-columns", "go-template", "go-template-file"}
}

// document is one result by itself, or an array of several.
func document(results []result) any {
	if len(results) == 1 {
		return results[0].value()
	}
	values := make([]any, len(results))
	for i, r := range results {
		values[i] = r.value()
	}
	return values
}

type jsonFormat struct{}

func (jsonFormat) print(w io.Writer, results []result, _ func() string) error {
	text, err := marshalJSON(document(results))
	if err != nil {
		return err
	}
	_, err = w.Write(text) // without a newline, as calicoctl
	return err
}

func (jsonFormat) pages(w io.Writer, kind string, _ func() string) (pages, error) {
	return newJSONPages(w, kind), nil
}

type yamlFormat struct{}

func (yamlFormat) print(w io.Writer, results []result, _ func() string) error {
	text, err := marshalYAML(document(results))
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func (yamlFormat) pages(w io.Writer, kind string, _ func() string) (pages, error) {
	return newYAMLPages(w, kind), nil
}

// templateFormat runs a user's template over the list of results.
type templateFormat struct{ text string }

func (f templateFormat) print(w io.Writer, results []result, asNumber func() string) error {
	t, err := template.New("get").Funcs(template.FuncMap{
		"join":            func(items any, separator string) string { return joinAndCut(texts(items), separator, 0) },
		"joinAndTruncate": func(items any, separator string, limit int) string { return joinAndCut(texts(items), separator, limit) },
		"config":          func(string) string { return asNumber() },
	}).Parse(f.text)
	if err != nil {
		return fmt.Errorf("the template of -o go-template: %w", err)
	}
	values := make([]any, len(results))
	for i, r := range results {
		values[i] = r.value()
	}
	return t.Execute(w, values)
}

func (f templateFormat) pages(w io.Writer, kind string, asNumber func() string) (pages, error) {
	return &wholePages{result{kind: kind, list: true}, func(r result) error { return f.print(w, []result{r}, asNumber) }}, nil
}

// texts are the elements of a list or map of anything.
func texts(items any) []string {
	v := reflect.ValueOf(items)
	var all []string
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			all = append(all, fmt.Sprint(v.Index(i).Interface()))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			all = append(all, fmt.Sprintf("%v=%v", key.Interface(), v.MapIndex(key).Interface()))
		}
		slices.Sort(all)
	case reflect.Invalid:
	default:
		all = []string{fmt.Sprint(items)}
	}
	return all
}

// tableFormat prints one table for each result, with a blank line after it.
type tableFormat struct {
	wide       bool
	headings   []string // chosen by the user
	namespaces bool
}

func (f tableFormat) print(w io.Writer, results []result, asNumber func() string) error {
	for _, r := range results {
		p, err := f.pages(w, r.kind, asNumber)
		if err != nil {
			return err
		}
		if err := p.page(r.objects, r.revision); err != nil {
			return err
		}
		if err := p.end(); err != nil {
			return err
		}
	}
	return nil
}

func (f tableFormat) pages(w io.Writer, kind string, asNumber func() string) (pages, error) {
	headings, err := f.headingsOf(kind)
	return &tablePages{table: newTable(w), headings: headings, asNumber: asNumber}, err
}

// rowOf is what a table shows of an object under some headings.
func rowOf(o api.Object, headings []string, asNumber func() string) []string {
	cells, row := cellsOf(o, asNumber), make([]string, len(headings))
	for i, h := range headings {
		row[i] = cells.text(h)
	}
	return row
}

func (f tableFormat) headingsOf(kindName string) ([]string, error) {
	kind, _ := api.KindOf(kindName)
	known := cellsOf(kind.New(), func() string { return "" })
	headings := f.headings
	switch {
	case headings != nil:
		for _, h := range headings {
			if !known.has(h) {
				err := fmt.Errorf("unknown heading %s, valid values are: %s", h, strings.Join(known.headings(), ", "))
				return nil, hints.With(err, hints.DidYouMean(h, known.headings()))
			}
		}
	case f.wide:
		headings = wideHeadings(kindName, known)
	default:
		headings = narrowHeadings(kindName)
	}
	if kind.Namespaced && f.namespaces && f.headings == nil {
		headings = append([]string{"NAMESPACE"}, headings...)
	}
	return headings, nil
}

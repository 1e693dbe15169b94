package print

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

// Result holds the answer for one KIND or NAME: an object, or a list.
type Result struct {
	Kind     string // of each object
	List     bool
	Objects  []api.Object // exactly one, unless it is a list
	Revision string       // of the list
}

// objectList is the wire form of a list.
type objectList struct {
	Kind       string       `json:"kind"`
	APIVersion string       `json:"apiVersion"`
	Metadata   listMetadata `json:"metadata"`
	Items      []api.Object `json:"items"`
}

// ListMeta returns the metadata. Templates written for calicoctl use this name.
func (l objectList) ListMeta() listMetadata { return l.Metadata }

type listMetadata struct {
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

func (r Result) value() any {
	if !r.List {
		return r.Objects[0]
	}
	items := r.Objects
	if items == nil {
		items = []api.Object{}
	}
	return objectList{r.Kind + "List", api.APIVersion, listMetadata{r.Revision}, items}
}

// Strip removes the fields that belong to one datastore, such as uid and resourceVersion.
func (r Result) Strip() {
	for _, o := range r.Objects {
		m := o.Meta()
		m.Namespace, m.UID, m.ResourceVersion = "", "", ""
		m.CreationTimestamp, m.DeletionTimestamp, m.DeletionGracePeriodSeconds = api.Time{}, nil, nil
	}
}

// Format prints results. asNumber returns the AS number of nodes that have none of their own; it is called only for those.
type Format interface {
	// Print prints complete results.
	Print(w io.Writer, results []Result, asNumber func() string) error
	// Pages prints one list like Print, page by page while it is read.
	Pages(w io.Writer, kind string, asNumber func() string) (Pages, error)
}

// ParseFormat parses the value of -o. With namespaces, a table has a column for them unless the user chooses the columns.
func ParseFormat(output string, namespaces bool) (Format, error) {
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

// document returns the value to encode: a single result itself, or an array of several.
func document(results []Result) any {
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

func (jsonFormat) Print(w io.Writer, results []Result, _ func() string) error {
	text, err := marshalJSON(document(results))
	if err != nil {
		return err
	}
	_, err = w.Write(text) // without a newline, as calicoctl
	return err
}

func (jsonFormat) Pages(w io.Writer, kind string, _ func() string) (Pages, error) {
	return newJSONPages(w, kind), nil
}

type yamlFormat struct{}

func (yamlFormat) Print(w io.Writer, results []Result, _ func() string) error {
	text, err := api.MarshalYAML(document(results))
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func (yamlFormat) Pages(w io.Writer, kind string, _ func() string) (Pages, error) {
	return newYAMLPages(w, kind), nil
}

// templateFormat runs a user's template over the list of results.
type templateFormat struct{ text string }

func (f templateFormat) Print(w io.Writer, results []Result, asNumber func() string) error {
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

func (f templateFormat) Pages(w io.Writer, kind string, asNumber func() string) (Pages, error) {
	return &collectedPages{Result{Kind: kind, List: true}, func(r Result) error { return f.Print(w, []Result{r}, asNumber) }}, nil
}

// texts formats the elements of a list or map of any type.
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

func (f tableFormat) Print(w io.Writer, results []Result, asNumber func() string) error {
	for _, r := range results {
		p, err := f.Pages(w, r.Kind, asNumber)
		if err != nil {
			return err
		}
		if err := p.Page(r.Objects, r.Revision); err != nil {
			return err
		}
		if err := p.End(); err != nil {
			return err
		}
	}
	return nil
}

func (f tableFormat) Pages(w io.Writer, kind string, asNumber func() string) (Pages, error) {
	headings, err := f.headingsOf(kind)
	return &tablePages{table: newTable(w), headings: headings, asNumber: asNumber}, err
}

// rowOf returns the cells of an object under some headings.
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

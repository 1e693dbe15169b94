package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Decode parses manifests: YAML or JSON, several documents separated by ---, lists such as TierList, or a list at the top. Every
// field must be known, in upper or lower case. The error names every mistake, up to maxProblems, with its document, line and
// path. The objects are as written: the caller calls Default and Validate next.
func Decode(data []byte) ([]Object, error) {
	var in input
	number := 0
	for _, c := range split(utf8Text(data)) {
		if len(in.problems) > maxProblems {
			break
		}
		docs, err := c.documents()
		if err != nil {
			number++
			in.problems = append(in.problems, fmt.Errorf("document %d: %w", number, err))
			continue
		}
		for _, doc := range docs {
			number++
			in.document(fmt.Sprintf("document %d", number), doc)
		}
	}
	if len(in.problems) > maxProblems {
		in.problems = append(in.problems[:maxProblems:maxProblems], errors.New("there are more errors: correct these first"))
	}
	if len(in.problems) > 0 {
		return nil, errors.Join(in.problems...)
	}
	return in.objects, nil
}

// CheckText returns an error if a text cannot be parsed as YAML or JSON without loss, for example because of a YAML tag. It is for
// input that does not go through Decode because it is not an object, such as a patch.
func CheckText(data []byte) error {
	for _, c := range split(utf8Text(data)) {
		if _, err := c.documents(); err != nil {
			return err
		}
	}
	return nil
}

// maxProblems is the largest number of mistakes that are reported at once: a generated file may have the same one everywhere.
const maxProblems = 50

// input collects the objects and mistakes found so far.
type input struct {
	objects  []Object
	from     map[Key]string // the document that each object was in
	problems []error
}

func (in *input) problem(where string, line int, format string, args ...any) {
	if line > 0 {
		where = fmt.Sprintf("%s, line %d", where, line)
	}
	in.problems = append(in.problems, fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...)))
}

// document decodes an object, a list kind with items, or a plain list. Lists may hold lists, because users combine the outputs
// of several commands.
func (in *input) document(where string, doc value) {
	switch doc.kind {
	case listValue:
		in.items(where, doc.items)
		return
	case fieldsValue:
	default:
		in.problem(where, doc.line, "want an object with apiVersion, kind, metadata and spec, not %s", doc.kind)
		return
	}
	if problem := misspelledType(doc); problem != "" {
		in.problem(where, doc.line, "%s", problem)
		return
	}
	of, isList := strings.CutSuffix(doc.field("kind").text, "List")
	items, listed := doc.lookup("items")
	if _, known := New(of); isList && known && listed {
		if version := doc.field("apiVersion").text; version != APIVersion {
			in.problem(where, doc.line, "unknown apiVersion %q: want %s", version, APIVersion)
			return
		}
		if items.kind != listValue && items.kind != nullValue {
			in.problem(where, items.line, "items: want a list, not %s", items.kind)
		}
		in.items(where, items.items)
		return
	}
	in.object(where, doc)
}

func (in *input) items(where string, items []value) {
	for i, item := range items {
		in.document(fmt.Sprintf("%s, item %d", where, i+1), item)
	}
}

// misspelledType returns an error text if apiVersion or kind is written in other case, which Calico does not recognise.
func misspelledType(doc value) string {
	for _, want := range []string{"apiVersion", "kind"} {
		for _, f := range doc.fields {
			if f.name != want && strings.EqualFold(f.name, want) {
				return fmt.Sprintf("unknown field %s, did you mean %s?", f.name, want)
			}
		}
	}
	return ""
}

func (in *input) object(where string, doc value) {
	o, problem := newFor(doc)
	if problem != "" {
		in.problem(where, doc.line, "%s", problem)
		return
	}
	name := doc.field("metadata").field("name").text
	w := writer{where: strings.TrimSpace(fmt.Sprintf("%s, %s %s", where, o.Type().Kind, name))}
	w.write(doc, objectType(o), "")
	if len(w.problems) > 0 {
		in.problems = append(in.problems, w.problems...)
		return
	}
	if err := json.Unmarshal(w.json, o); err != nil {
		in.problem(w.where, doc.line, "%v", err)
		return
	}
	if _, computed := o.(*WorkloadEndpoint); o.Meta().Name == "" && !computed {
		in.problem(w.where, doc.line, "metadata.name is missing: give the object a name")
		return
	}
	in.add(where, doc.line, o)
}

func (in *input) add(where string, line int, o Object) {
	key := KeyOf(o)
	if before, twice := in.from[key]; twice && key.Name != "" {
		in.problem(where, line, "%s is given twice, first in %s: remove one", key, before)
		return
	}
	if in.from == nil {
		in.from = map[Key]string{}
	}
	in.from[key] = where
	in.objects = append(in.objects, o)
}

// newFor returns an empty object of the kind that a document names, or an error text.
func newFor(doc value) (Object, string) {
	kind, version := doc.field("kind").text, doc.field("apiVersion").text
	for _, name := range []string{"kind", "apiVersion"} {
		if v := doc.field(name); v.kind == listValue || v.kind == fieldsValue {
			return nil, fmt.Sprintf("%s: want text, not %s", name, v.kind)
		}
	}
	k, known := KindOf(kind)
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.Name)
	}
	foreign, isForeign := ForeignKindOf(kind)
	switch {
	case kind != "" && version != "" && !known && !strings.HasPrefix(version, "projectcalico.org/"):
		return nil, fmt.Sprintf("kind %s of apiVersion %s is not one of %s: remove it", kind, version, APIVersion)
	case kind == "":
		return nil, "kind is missing: want one of " + strings.Join(names, ", ")
	case known && k.Name != kind:
		return nil, fmt.Sprintf("unknown kind %q, did you mean %s?", kind, k.Name)
	case isForeign:
		return nil, fmt.Sprintf("kind %s is not supported: remove the object, or use calicoctl for it", foreign.Name)
	case !known:
		if near := nearest(kind, names); near != "" {
			return nil, fmt.Sprintf("unknown kind %q, did you mean %s?", kind, near)
		}
		return nil, fmt.Sprintf("unknown kind %q: want one of %s", kind, strings.Join(names, ", "))
	case version == "":
		return nil, "apiVersion is missing: want " + APIVersion
	case version != APIVersion:
		return nil, fmt.Sprintf("unknown apiVersion %q: want %s", version, APIVersion)
	}
	return k.New(), ""
}

func (v value) lookup(name string) (value, bool) {
	for _, f := range v.fields {
		if strings.EqualFold(f.name, name) {
			return f.value, true
		}
	}
	return value{}, false
}

func (v value) field(name string) value {
	found, _ := v.lookup(name)
	return found
}

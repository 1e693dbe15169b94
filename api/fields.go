package api

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// field is a field of an object under its name in JSON.
type field struct {
	name  string
	typ   reflect.Type
	index []int
}

// fieldsOf lists the fields of a struct under their names in JSON, those of embedded structs included. Callers share the list and
// must not change it.
func fieldsOf(t reflect.Type) []field {
	if fields, ok := fieldsOfKinds()[t]; ok {
		return fields
	}
	return listFields(t)
}

// fieldsOfKinds holds the fields of all structs in objects. It is built once, because every value of a manifest needs it, and never
// changes.
var fieldsOfKinds = sync.OnceValue(func() map[reflect.Type][]field {
	listed := map[reflect.Type][]field{}
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			visit(t.Elem())
		case reflect.Struct:
			if _, done := listed[t]; done || isLeaf(t) {
				return
			}
			listed[t] = listFields(t)
			for _, f := range listed[t] {
				visit(f.typ)
			}
		}
	}
	for _, k := range append(Kinds(), internalKinds()...) {
		visit(objectType(k.New()))
	}
	return listed
})

func listFields(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && f.Anonymous:
			for _, inner := range listFields(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				fields = append(fields, inner)
			}
		default:
			fields = append(fields, field{name, f.Type, []int{i}})
		}
	}
	return fields
}

// fieldOf finds a field by its name, in upper or lower case.
func fieldOf(t reflect.Type, name string) (field, bool) {
	for _, f := range fieldsOf(t) {
		if strings.EqualFold(f.name, name) {
			return f, true
		}
	}
	return field{}, false
}

// isLeaf says whether a type decodes its own JSON, or accepts any value.
func isLeaf(t reflect.Type) bool {
	reader := reflect.TypeFor[json.Unmarshaler]()
	return t.Implements(reader) || reflect.PointerTo(t).Implements(reader) || t.Kind() == reflect.Interface
}

// nearest returns the name with the most similar spelling; empty if none is similar. One letter in three may be wrong. In a word of
// up to three letters, letters may only be missing or swapped: with another letter it is another word (pod, pol).
func nearest(written string, names []string) string {
	written = strings.ToLower(written)
	best, found := max(1, (len(written)+1)/3)+1, ""
	for _, n := range names {
		name := strings.ToLower(n)
		if len(written) <= 3 && strings.Trim(written, name) != "" {
			continue
		}
		if d := distance(written, name); d < best {
			best, found = d, n
		}
	}
	return found
}

// distance is the number of letters to change, add, remove or swap with the next one to turn b into a (optimal string alignment).
// Texts longer than 64 bytes are not compared.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

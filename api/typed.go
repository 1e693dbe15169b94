package api

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

func objectType(o Object) reflect.Type { return reflect.TypeOf(o).Elem() }

// writer turns a value of a document into JSON that fits a type, and collects the mistakes.
type writer struct {
	where    string // document, kind and name, for errors
	json     []byte
	problems []error
}

func (w *writer) problem(v value, path, format string, args ...any) {
	if len(w.problems) > maxProblems {
		return
	}
	line := ""
	if v.line > 0 {
		line = fmt.Sprintf(", line %d", v.line)
	}
	if path != "" {
		path = " " + path + ":"
	}
	w.problems = append(w.problems, fmt.Errorf("%s%s:%s %s", w.where, line, path, fmt.Sprintf(format, args...)))
}

func (w *writer) text(s string) {
	quoted, _ := json.Marshal(s) // cannot fail for text
	w.json = append(w.json, quoted...)
}

func (w *writer) write(v value, t reflect.Type, path string) {
	if v.kind == nullValue {
		w.json = append(w.json, "null"...)
		return
	}
	if isLeaf(t) {
		w.leaf(v, t, path)
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		w.write(v, t.Elem(), path)
	case reflect.Struct, reflect.Map:
		if v.kind != fieldsValue {
			w.problem(v, path, "want fields, not %s", v.shown())
			return
		}
		w.fields(v, t, path)
	case reflect.Slice:
		if v.kind != listValue {
			w.problem(v, path, "want a list, not %s", v.shown())
			return
		}
		w.json = append(w.json, '[')
		for i, item := range v.items {
			if i > 0 {
				w.json = append(w.json, ',')
			}
			w.write(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
		w.json = append(w.json, ']')
	default:
		w.scalar(v, t, path)
	}
}

func (w *writer) fields(v value, t reflect.Type, path string) {
	seen, written := map[string]bool{}, false
	w.json = append(w.json, '{')
	for _, m := range v.fields {
		name, typ, known := m.name, reflect.Type(nil), true
		if t.Kind() == reflect.Map {
			typ = t.Elem()
		} else {
			var f field
			f, known = fieldOf(t, m.name)
			name, typ = f.name, f.typ
		}
		at := joinPath(path, m.name)
		switch {
		case !known:
			w.problem(m.value, "", "unknown field %s%s", at, suggestion(t, path, m.name))
			continue
		case seen[name]:
			w.problem(m.value, at, "given twice: remove one")
			continue
		}
		seen[name] = true
		if m.value.kind == nullValue && t.Kind() == reflect.Struct {
			continue // null in a struct is the same as a missing field
		}
		if written {
			w.json = append(w.json, ',')
		}
		written = true
		w.text(name)
		w.json = append(w.json, ':')
		w.write(m.value, typ, at)
	}
	w.json = append(w.json, '}')
}

func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// leaf writes a value for a type that decodes its own JSON, and reports an error if the type refuses it.
func (w *writer) leaf(v value, t reflect.Type, path string) {
	start := len(w.json)
	w.natural(v)
	read := reflect.New(t)
	if err := json.Unmarshal(w.json[start:], read.Interface()); err != nil {
		w.problem(v, path, "%s", leafReason(v, t, err))
	}
}

func leafReason(v value, t reflect.Type, err error) string {
	want := ""
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[Duration]():
		want = "a duration such as 90s or 1m30s"
	case reflect.TypeFor[Time]():
		want = "a time such as 2026-08-20T10:15:30Z"
	case reflect.TypeFor[ASNumber]():
		want = "an AS number from 0 to 4294967295, such as 64512 or 1.10"
	case reflect.TypeFor[Protocol]():
		want = "a protocol: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255"
	case reflect.TypeFor[DSCP]():
		want = "a class such as EF or AF11, or a number from 0 to 255"
	case reflect.TypeFor[Port]():
		want = "a port from 1 to 65535, a range such as 8000:8010, or the name of a port"
	default:
		return err.Error()
	}
	return "want " + want + ", not " + v.shown()
}

// natural writes a value as the JSON of its own kind, whatever type is wanted.
func (w *writer) natural(v value) {
	switch v.kind {
	case nullValue:
		w.json = append(w.json, "null"...)
	case textValue:
		w.text(v.text)
	case numberValue:
		w.json = append(w.json, v.number...)
	case booleanValue:
		w.json = append(w.json, v.text...)
	case listValue:
		w.json = append(w.json, '[')
		for i, item := range v.items {
			if i > 0 {
				w.json = append(w.json, ',')
			}
			w.natural(item)
		}
		w.json = append(w.json, ']')
	case fieldsValue:
		w.json = append(w.json, '{')
		for i, m := range v.fields {
			if i > 0 {
				w.json = append(w.json, ',')
			}
			w.text(m.name)
			w.json = append(w.json, ':')
			w.natural(m.value)
		}
		w.json = append(w.json, '}')
	}
}

func (w *writer) scalar(v value, t reflect.Type, path string) {
	switch t.Kind() {
	case reflect.String:
		if v.kind == listValue || v.kind == fieldsValue {
			w.problem(v, path, "want text, not %s", v.shown())
			return
		}
		w.text(v.text) // for text, the unquoted values 12 and true are text too
	case reflect.Bool:
		truth, ok := v.boolean()
		if !ok {
			w.problem(v, path, "want true or false, not %s", v.shown())
			return
		}
		w.json = strconv.AppendBool(w.json, truth)
	default:
		w.number(v, t, path)
	}
}

func (w *writer) number(v value, t reflect.Type, path string) {
	number := v.number
	if f, err := strconv.ParseFloat(number, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		number = strconv.FormatFloat(f, 'f', -1, 64) // 5.0 and 1e3 are whole numbers
	}
	if v.kind != numberValue || json.Unmarshal([]byte(number), reflect.New(t).Interface()) != nil {
		w.problem(v, path, "want %s, not %s", rangeOf(t), v.shown())
		return
	}
	w.json = append(w.json, number...)
}

func rangeOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf("a whole number from 0 to %d", uint64(1)<<t.Bits()-1)
	case reflect.Int32:
		return fmt.Sprintf("a whole number from %d to %d", math.MinInt32, math.MaxInt32)
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// boolean parses true and false, and without quotes also the words of YAML 1.1: yes, no, on, off, y, n.
func (v value) boolean() (truth, ok bool) {
	if v.kind == booleanValue {
		return v.text == "true", true
	}
	if v.kind == textValue && v.plain {
		switch strings.ToLower(v.text) {
		case "yes", "on", "y":
			return true, true
		case "no", "off", "n":
			return false, true
		}
	}
	return false, false
}

// shown formats a value for an error.
func (v value) shown() string {
	switch v.kind {
	case textValue:
		text := v.text
		if len(text) > 60 {
			text = strings.ToValidUTF8(text[:60], "") + "..."
		}
		return fmt.Sprintf("the text %q", text)
	case numberValue, booleanValue:
		return v.text
	}
	return string(v.kind)
}

// suggestion returns the end of an error about an unknown field: the field that was probably meant, or all valid fields.
func suggestion(t reflect.Type, path, written string) string {
	var names, deeper []string
	for _, f := range fieldsOf(t) {
		names = append(names, f.name)
		inner := f.typ
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && !isLeaf(inner) {
			if below, ok := fieldOf(inner, written); ok {
				deeper = append(deeper, joinPath(path, f.name+"."+below.name))
			}
		}
	}
	if near := nearest(written, names); near != "" {
		return fmt.Sprintf(", did you mean %s?", joinPath(path, near))
	}
	if len(deeper) > 0 {
		return fmt.Sprintf(", did you mean %s?", strings.Join(deeper, " or "))
	}
	slices.Sort(names)
	return ": want one of " + strings.Join(names, ", ")
}

package main

import (
	"encoding"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// bare returns the type behind pointers and lists.
func bare(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

// readsItself says whether a type decodes its own values, which are then not written as an object with fields.
func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// typeText names a type in the terms of manifests.
func typeText(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return typeText(t.Elem())
	case t == reflect.TypeFor[json.RawMessage]():
		return "anything"
	case readsItself(t):
		return t.Name()
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + typeText(t.Elem())
	case reflect.Map:
		return "map of " + typeText(t.Key()) + " to " + typeText(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Struct, reflect.Interface:
		return "object"
	}
	return "number"
}

// defaultText returns the value that is stored when a manifest leaves a field out; empty if it has no default.
func defaultText(kind api.Kind, path [][]int) string {
	o := kind.New()
	api.Default(o)
	v := reflect.ValueOf(o).Elem()
	for _, index := range path {
		for v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return ""
			}
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return "" // inside of a list, which is empty by default
		}
		v = v.FieldByIndex(index)
	}
	if v.IsZero() || bare(v.Type()).Kind() == reflect.Struct && !readsItself(bare(v.Type())) {
		return ""
	}
	text, err := json.Marshal(v.Interface())
	if err != nil {
		return ""
	}
	return strings.Trim(string(text), `"`)
}

var position = regexp.MustCompile(`\[[0-9]+\]`)

// validTexts describes the valid values of a field. It validates values that no field allows, and collects the reasons of the
// refusals.
func validTexts(kind api.Kind, e schemaElement) []string {
	var reasons []string
	for _, extreme := range []int64{math.MinInt32, math.MaxInt32} {
		o := kind.New()
		o.Meta().Name = "example"
		if !e.set(reflect.ValueOf(o).Elem(), e.index, extreme) {
			return nil
		}
		failed, ok := errors.AsType[api.Errors](api.Validate(o))
		if !ok {
			continue
		}
		for _, f := range failed {
			reason := described(f.Reason)
			path := position.ReplaceAllString(f.Path, "")
			if strings.EqualFold(path, strings.Join(e.path[1:], ".")) && !slices.Contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
		}
	}
	return reasons
}

// described turns the refusal of a value into a description of the valid values.
func described(refusal string) string {
	text := strings.TrimSuffix(strings.TrimPrefix(refusal, "want "), ": remove it")
	switch { // the position of the error says nothing about the field
	case strings.HasPrefix(text, "not a selector"):
		return "a selector"
	case strings.HasPrefix(text, "a regular expression"):
		return "a regular expression"
	case strings.HasSuffix(text, " is missing"): // a part about another field follows the part about this one
		return text[:strings.LastIndex(text, ": ")]
	}
	return text
}

// set gives a field a value that is hardly ever valid, and allocates the structs on the way to it. It returns false for a type
// whose values are all valid, such as bool.
func (e schemaElement) set(v reflect.Value, path [][]int, extreme int64) bool {
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return e.set(v.Elem(), path, extreme)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return e.set(v.Index(0), path, extreme)
	case len(path) > 0 && v.Kind() == reflect.Struct:
		return e.set(v.FieldByIndex(path[0]), path[1:], extreme)
	case len(path) > 0:
		return false
	case v.Kind() == reflect.String:
		v.SetString("?")
	case v.CanInt():
		v.SetInt(extreme >> (32 - min(32, v.Type().Bits())))
	case v.CanFloat():
		v.SetFloat(float64(extreme))
	default:
		return false
	}
	return true
}

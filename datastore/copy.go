package datastore

import (
	"reflect"
	"time"

	"github.com/margay-project/margay/api"
)

// deep returns a copy that shares no changeable memory with the original.
func deep(o api.Object) api.Object {
	copied := reflect.New(reflect.TypeOf(o).Elem())
	copyInto(copied.Elem(), reflect.ValueOf(o).Elem())
	return copied.Interface().(api.Object)
}

var timeType = reflect.TypeFor[time.Time]()

func copyInto(to, from reflect.Value) {
	to.Set(from)
	switch from.Kind() {
	case reflect.Pointer:
		if !from.IsNil() {
			to.Set(reflect.New(from.Type().Elem()))
			copyInto(to.Elem(), from.Elem())
		}
	case reflect.Struct:
		if from.Type() == timeType {
			return // Set has copied it; its fields are not exported
		}
		for i := range from.NumField() {
			copyInto(to.Field(i), from.Field(i))
		}
	case reflect.Slice:
		if !from.IsNil() {
			to.Set(reflect.MakeSlice(from.Type(), from.Len(), from.Len()))
			copyElements(to, from)
		}
	case reflect.Map:
		if !from.IsNil() {
			to.Set(reflect.MakeMapWithSize(from.Type(), from.Len()))
			for entries := from.MapRange(); entries.Next(); {
				value := reflect.New(from.Type().Elem()).Elem()
				copyInto(value, entries.Value())
				to.SetMapIndex(entries.Key(), value)
			}
		}
	}
}

func copyElements(to, from reflect.Value) {
	switch from.Type().Elem().Kind() {
	case reflect.String, reflect.Uint8, reflect.Int:
		reflect.Copy(to, from)
	default:
		for i := range from.Len() {
			copyInto(to.Index(i), from.Index(i))
		}
	}
}

package process

import (
	"reflect"
	"testing"

	"github.com/margay-project/margay/dataplane/bgp"
)

// gob takes a pointer to a zero value for nil, unless it is a pointer to a struct, and it sends no value of an interface type that nobody has
// registered.
func TestNoMessageHasAFieldThatGobLoses(t *testing.T) {
	t.Parallel()
	seen := map[reflect.Type]bool{}
	var look func(of reflect.Type, path string)
	look = func(of reflect.Type, path string) {
		if seen[of] {
			return
		}
		seen[of] = true
		switch of.Kind() {
		case reflect.Pointer:
			if of.Elem().Kind() != reflect.Struct {
				t.Errorf("%s is a pointer to no struct: %v", path, of)
			}
			look(of.Elem(), path)
		case reflect.Interface, reflect.Func, reflect.Chan:
			t.Errorf("%s is of a type that gob does not send: %v", path, of)
		case reflect.Slice, reflect.Array:
			look(of.Elem(), path+"[]")
		case reflect.Map:
			look(of.Key(), path+"[key]")
			look(of.Elem(), path+"[]")
		case reflect.Struct:
			if _, marshals := of.MethodByName("MarshalBinary"); marshals {
				return // of the standard library: addresses, prefixes, times
			}
			for i := range of.NumField() {
				look(of.Field(i).Type, path+"."+of.Field(i).Name)
			}
		}
	}
	for _, message := range []any{
		bgp.Options{}, Change{}, News{}, Kernel{}, []bgp.PeerStatus{}, []bgp.Announcement{}, Part{}, Routes{},
	} {
		look(reflect.TypeOf(message), reflect.TypeOf(message).String())
	}
}

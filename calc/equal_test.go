package calc

import (
	"net/netip"
	"reflect"
	"testing"
)

// If equality left a field out, a change of that field would never reach the dataplane.
func TestEqualityComparesEveryField(t *testing.T) {
	everyField(t, Policy.equal)
	everyField(t, pointed((*Rule).equal))
	everyField(t, pointed((*Match).equal))
	everyField(t, Endpoint.equal)
	everyField(t, pointed((*TierPolicies).equal))
	everyField(t, BGP.equal)
	everyField(t, Path.equal)
	everyField(t, Config.equal)
}

func pointed[T any](equal func(a, b *T) bool) func(a, b T) bool {
	return func(a, b T) bool { return equal(&a, &b) }
}

func everyField[T any](t *testing.T, equal func(a, b T) bool) {
	t.Helper()
	var zero T
	if !equal(zero, zero) {
		t.Errorf("%T differs from itself", zero)
	}
	for i := range reflect.TypeFor[T]().NumField() {
		changed := zero
		field := reflect.ValueOf(&changed).Elem().Field(i)
		field.Set(sample(field.Type()))
		if equal(zero, changed) || equal(changed, zero) {
			t.Errorf("%T: a change of %s is not seen", zero, reflect.TypeFor[T]().Field(i).Name)
		}
	}
}

// sample is a value of a type that is not its zero value.
func sample(of reflect.Type) reflect.Value {
	v := reflect.New(of).Elem()
	switch {
	case of == reflect.TypeFor[netip.Addr]():
		return reflect.ValueOf(netip.MustParseAddr("10.0.0.1"))
	case of == reflect.TypeFor[netip.Prefix]():
		return reflect.ValueOf(netip.MustParsePrefix("10.0.0.0/8"))
	case of.Kind() == reflect.Array:
		v.Index(of.Len() - 1).Set(sample(of.Elem()))
	case of.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(of, 1, 1))
	case of.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(of))
		v.SetMapIndex(reflect.Zero(of.Key()), reflect.Zero(of.Elem()))
	case of.Kind() == reflect.Pointer:
		v.Set(reflect.New(of.Elem()))
	case of.Kind() == reflect.Struct:
		v.Field(0).Set(sample(of.Field(0).Type))
	case v.CanInt():
		v.SetInt(1)
	case v.CanUint():
		v.SetUint(1)
	case v.CanFloat():
		v.SetFloat(1)
	case of.Kind() == reflect.Bool:
		v.SetBool(true)
	case of.Kind() == reflect.String:
		v.SetString("x")
	default:
		panic("no sample of " + of.String())
	}
	return v
}

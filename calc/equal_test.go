package calc

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
)

// If equality left a field out, a change of that field would never reach the dataplane.
func TestEqualityComparesEveryField(t *testing.T) {
	everyField(t, Policy.equal)
	everyField(t, pointed((*Rule).equal))
	everyField(t, pointed((*Match).equal))
	everyField(t, pointed((*PortNames).equal))
	everyField(t, Endpoint.equal)
	everyField(t, pointed((*TierPolicies).equal))
	everyField(t, BGP.equal)
	everyField(t, Peer.Equal)
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

// Diff sees a change of every value in a State, also of those in lists, maps and structs of structs, and Fold brings it to the receiver.
func TestDiffSeesEveryValueOfAState(t *testing.T) {
	a := variation(-1)
	if d := Diff(a.state, variation(-1).state); !d.Empty() {
		t.Fatalf("equal states differ: %+v", d)
	}
	for i, name := range a.names {
		b := variation(i).state
		d := Diff(a.state, b)
		if d.Empty() {
			t.Errorf("a change of %s is not seen", name)
		}
		folded := a.state.Clone()
		folded.Fold(d)
		if !reflect.DeepEqual(folded, b) {
			t.Errorf("a change of %s is not folded", name)
		}
	}
	t.Logf("%d values", len(a.names))
}

// varied is a State in which no value is zero, each map and slice has one element, and no memory is shared with another one.
type varied struct {
	state   *State
	names   []string // of all values, in the order of the walk
	another int      // the value with this index differs from that of other variations
}

func variation(another int) *varied {
	v := &varied{state: &State{}, another: another}
	v.fill(reflect.ValueOf(v.state).Elem(), "State")
	return v
}

// fill sets everything in a value, which has the given name.
func (v *varied) fill(x reflect.Value, name string) {
	one := func(of reflect.Type, name string) reflect.Value {
		e := reflect.New(of).Elem()
		v.fill(e, name)
		return e
	}
	switch x.Kind() {
	case reflect.Array:
		for i := range x.Len() {
			v.fill(x.Index(i), fmt.Sprintf("%s[%d]", name, i))
		}
	case reflect.Slice:
		x.Set(reflect.Append(x, one(x.Type().Elem(), name+"[]")))
	case reflect.Map:
		x.Set(reflect.MakeMap(x.Type()))
		x.SetMapIndex(one(x.Type().Key(), name+" key"), one(x.Type().Elem(), name+"[]"))
	case reflect.Pointer:
		x.Set(one(x.Type().Elem(), name).Addr())
	case reflect.Struct:
		if x.Type().PkgPath() != "net/netip" {
			for i := range x.NumField() {
				v.fill(x.Field(i), name+"."+x.Type().Field(i).Name)
			}
			return
		}
		fallthrough
	default:
		v.set(x, name)
	}
}

// set gives a value without parts the sample of its type, or another value.
func (v *varied) set(x reflect.Value, name string) {
	x.Set(sample(x.Type()))
	if v.names = append(v.names, name); len(v.names)-1 == v.another {
		switch x.Interface().(type) {
		case netip.Addr:
			x.Set(reflect.ValueOf(netip.MustParseAddr("10.0.0.2")))
		case netip.Prefix:
			x.Set(reflect.ValueOf(netip.MustParsePrefix("11.0.0.0/8")))
		default:
			x.SetZero()
		}
	}
}

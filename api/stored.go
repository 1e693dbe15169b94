package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
)

// Encode returns the stored form of an object: compact JSON with kind and version filled in, without resourceVersion and selfLink,
// which the datastore knows, and with the fields that DecodeStored did not know. Rules with criteria that Calico does not know
// are sealed (see seal.go).
func Encode(o Object) ([]byte, error) {
	stored := shallow(o) // the caller's object must not change
	stored.Meta().ResourceVersion, stored.Meta().SelfLink = "", ""
	*stored.Type() = TypeMeta{Kind: typeName(o), APIVersion: APIVersion}
	if outsideTree(o) {
		*stored.Type() = TypeMeta{}
	}
	sealRules(stored)
	text, err := json.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", KeyOf(o), err)
	}
	return putBack(text, o.Meta().Rest), nil
}

// outsideTree says whether an object has a key outside of the tree of other objects. Its stored form has neither kind nor metadata.
func outsideTree(o Object) bool {
	switch o.(type) {
	case *IPAMBlock, *BlockAffinity:
		return true
	}
	return false
}

// wayOut tells the operator how to repair a stored value that is unreadable. Values of IPAM have no manifest.
func wayOut(o Object) string {
	if outsideTree(o) {
		return "repair or delete the key"
	}
	return "write the object again with margayctl replace, or delete the key"
}

// putBack adds the fields that this version does not know to the JSON of an object. A field whose parent was removed is dropped.
func putBack(text []byte, rest []RestField) []byte {
	for _, f := range rest {
		path, err := json.Marshal(f.Path)
		if err != nil {
			continue
		}
		patch, err := jsonpatch.DecodePatch(fmt.Appendf(nil, `[{"op":"add","path":%s,"value":%s}]`, path, f.Value))
		if err != nil {
			continue
		}
		if patched, err := patch.Apply(text); err == nil {
			text = patched
		}
	}
	return text
}

// MarshalJSON writes the unknown fields too.
func (r Rule) MarshalJSON() ([]byte, error) {
	type plain Rule
	text, err := json.Marshal(plain(r))
	return putBack(text, r.Rest), err
}

// IsZero says whether a side has no field, and is left out of the JSON. Empty matches that were given are written.
func (e EntityRule) IsZero() bool {
	return !e.restricts() && e.Services == nil && e.ServiceAccounts == nil && len(e.Rest) == 0
}

// MarshalJSON writes the unknown fields too.
func (e EntityRule) MarshalJSON() ([]byte, error) {
	type plain EntityRule
	text, err := json.Marshal(plain(e))
	return putBack(text, e.Rest), err
}

// DecodeStored decodes a stored object. It keeps the fields that this version does not know. In a rule it names them in Unknown,
// because a rule without one of its criteria would match more packets.
//
// It removes the seals of rules (see seal.go). With an error, the object holds the fields that could be read, or is nil. Such an
// object may only deny packets, never allow any.
func DecodeStored(kind string, text []byte) (Object, error) {
	o, err := decodeStored(kind, text)
	if o != nil {
		unsealRules(o)
	}
	return o, err
}

func decodeStored(kind string, text []byte) (Object, error) {
	o, ok := New(kind)
	if !ok {
		return nil, fmt.Errorf("decode %s: this version does not know the kind: upgrade the agent or delete the object", kind)
	}
	if len(text) == 0 && outsideTree(o) {
		text = []byte("{}") // affinities in very old datastores have no value
	}
	if text = bytes.TrimSpace(text); len(text) == 0 || text[0] != '{' {
		return nil, fmt.Errorf("decode stored %s: not a JSON object; %s", kind, wayOut(o))
	}
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(o); err == nil && !strict.More() {
		setType(o, kind)
		return o, nil
	}
	o, _ = New(kind) // an unknown field or an error: decode again, and tolerate unknown fields
	err := json.Unmarshal(text, o)
	if err == nil {
		setType(o, kind)
		keepUnknown(o, text)
		return o, nil
	}
	err = fmt.Errorf("decode stored %s: %w; %s", kind, err, wayOut(o))
	if !json.Valid(text) {
		return nil, err
	}
	o, _ = New(kind)
	salvage(reflect.ValueOf(o).Elem(), text)
	setType(o, kind)
	keepUnknown(o, text)
	return o, err
}

func setType(o Object, kind string) { *o.Type() = TypeMeta{Kind: kind, APIVersion: APIVersion} }

// salvage decodes each field by itself, so that an invalid value does not hide the fields after it.
func salvage(object reflect.Value, text json.RawMessage) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil {
		return
	}
	for name, raw := range fields {
		field, ok := fieldOf(object.Type(), name)
		if !ok {
			continue
		}
		value := object.FieldByIndex(field.index)
		read := reflect.New(value.Type())
		if json.Unmarshal(raw, read.Interface()) == nil {
			value.Set(read.Elem())
		} else if value.Kind() == reflect.Struct && !isLeaf(value.Type()) {
			salvage(value, raw)
		}
	}
}

// keepUnknown notes the fields of the text that the object does not have.
func keepUnknown(o Object, text json.RawMessage) {
	unknownFields{rest: &o.Meta().Rest}.collect(reflect.ValueOf(o).Elem(), text, "")
}

// unknownFields walks an object and notes unknown fields in the innermost part that can hold them: a side of a rule, a rule, or the
// object. So they stay with their rule when other rules are inserted or removed.
type unknownFields struct {
	rest  *[]RestField // of the part that holds the notes
	names *[]string    // of the part that holds the notes; nil for the object
}

// collect compares a value with the text that it was decoded from. path is relative to the part that holds the notes.
func (u unknownFields) collect(v reflect.Value, text json.RawMessage, path string) {
	if isLeaf(v.Type()) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			u.collect(v.Elem(), text, path)
		}
	case reflect.Struct:
		u.collectFields(v, text, path)
	case reflect.Slice:
		var items []json.RawMessage
		if json.Unmarshal(text, &items) != nil {
			return
		}
		for i := range min(len(items), v.Len()) {
			u.collect(v.Index(i), items[i], path+"/"+strconv.Itoa(i))
		}
	}
}

func (u unknownFields) collectFields(v reflect.Value, text json.RawMessage, path string) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil {
		return
	}
	switch part := v.Addr().Interface().(type) {
	case *Rule:
		u, path = unknownFields{&part.Rest, &part.Unknown}, ""
	case *EntityRule:
		u, path = unknownFields{&part.Rest, &part.Unknown}, ""
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		at := path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		if field, ok := fieldOf(v.Type(), name); ok {
			u.collect(v.FieldByIndex(field.index), fields[name], at)
			continue
		}
		*u.rest = append(*u.rest, RestField{at, fields[name]})
		if u.names != nil {
			*u.names = append(*u.names, strings.ReplaceAll(at[1:], "/", "."))
		}
	}
}

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Directives of a strategic merge patch, beside the fields themselves.
const (
	patchDirective = "$patch" // replace or delete the object that contains it
	retainKeys     = "$retainKeys"
	elementOrder   = "$setElementOrder/"         // and the name of a list
	deleteElements = "$deleteFromPrimitiveList/" // and the name of a list
)

// mergeKey says whether a strategic merge patch adds to the list at a path, and which field identifies an element. Without a
// key, equal elements are the same. All other lists are replaced: their elements, such as rules and networks, have no names.
func mergeKey(path string) (key string, merged bool) {
	switch path {
	case "metadata.finalizers":
		return "", true
	case "metadata.ownerReferences":
		return "uid", true
	}
	return "", false
}

// strategicMerge applies a strategic merge patch, as Kubernetes defines it, to an object. Both are JSON.
func strategicMerge(original, patch []byte) ([]byte, error) {
	before, err := plainObject(original)
	if err != nil {
		return nil, err
	}
	change, err := plainObject(patch)
	if err != nil {
		return nil, err
	}
	merged, err := mergeFields(before, change, "")
	if err != nil {
		return nil, err
	}
	return json.Marshal(merged)
}

func plainObject(text []byte) (fields map[string]any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&fields)
	return fields, err
}

// mergeFields returns the fields at a path after a patch. before may be nil; it is not changed.
func mergeFields(before, patch map[string]any, path string) (map[string]any, error) {
	switch directive, given := patch[patchDirective]; {
	case directive == "replace":
		patch = maps.Clone(patch)
		delete(patch, patchDirective)
		return mergeFields(nil, patch, path)
	case directive == "delete":
		return map[string]any{}, nil
	case given:
		return nil, fmt.Errorf("%s: $patch is %v: want replace or delete", cmp.Or(path, "the object"), directive)
	}
	after, err := retained(before, patch, path)
	if err != nil {
		return nil, err
	}
	for name, value := range patch {
		if strings.HasPrefix(name, "$") {
			continue // the lists' directives are read with the lists
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		switch value := value.(type) {
		case nil:
			delete(after, name)
		case map[string]any:
			inner, _ := after[name].(map[string]any)
			if after[name], err = mergeFields(inner, value, at); err != nil {
				return nil, err
			}
		case []any:
		default:
			after[name] = value
		}
	}
	return after, mergeLists(after, patch, path)
}

// retained returns a copy of the fields. If the patch has $retainKeys, it copies only the fields that this list names.
func retained(before, patch map[string]any, path string) (map[string]any, error) {
	after := maps.Clone(before)
	if after == nil {
		after = map[string]any{}
	}
	named, given := patch[retainKeys]
	if !given {
		return after, nil
	}
	keep, ok := named.([]any)
	if !ok {
		return nil, fmt.Errorf("%s: $retainKeys: want a list of fields", cmp.Or(path, "the object"))
	}
	for name := range patch {
		if !strings.HasPrefix(name, "$") && !slices.Contains(keep, any(name)) {
			return nil, fmt.Errorf("%s: $retainKeys does not name %s, which the patch sets", cmp.Or(path, "the object"), name)
		}
	}
	for name := range after {
		if !slices.Contains(keep, any(name)) {
			delete(after, name)
		}
	}
	return after, nil
}

// mergeLists changes the lists among the fields: those that the patch gives, deletes from or orders.
func mergeLists(after, patch map[string]any, path string) error {
	for _, name := range listsIn(patch) {
		at := strings.TrimPrefix(path+"."+name, ".")
		list := patchedList{path: at, patch: patch[name]}
		list.key, list.merged = mergeKey(at)
		list.elements, _ = after[name].([]any)
		var ok [2]bool
		list.remove, ok[0] = listOrNothing(patch[deleteElements+name])
		list.order, ok[1] = listOrNothing(patch[elementOrder+name])
		if !ok[0] || !ok[1] {
			return fmt.Errorf("%s: $setElementOrder and $deleteFromPrimitiveList want a list of elements", at)
		}
		if err := list.apply(); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if _, given := list.patch.([]any); given || len(list.elements) > 0 {
			after[name] = list.elements
		}
	}
	return nil
}

// listsIn names the lists that the fields of a patch are about, in order.
func listsIn(patch map[string]any) []string {
	names := map[string]bool{}
	for key, value := range patch {
		if _, isList := value.([]any); isList && !strings.HasPrefix(key, "$") {
			names[key] = true
		}
		for _, prefix := range []string{elementOrder, deleteElements} {
			if name, ok := strings.CutPrefix(key, prefix); ok {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func listOrNothing(v any) ([]any, bool) {
	list, ok := v.([]any)
	return list, ok || v == nil
}

// patchedList is a list with the parts of a patch that change it.
type patchedList struct {
	path          string
	key           string // the field that identifies an element, if any
	merged        bool   // the patch adds to it
	elements      []any
	patch         any   // a list, or nil
	remove, order []any // of $deleteFromPrimitiveList and $setElementOrder
}

func (l *patchedList) apply() error {
	l.elements = slices.DeleteFunc(slices.Clone(l.elements), func(e any) bool { return l.find(l.remove, e) >= 0 })
	given, isGiven := l.patch.([]any)
	if isGiven && !l.merged {
		return l.replace(given)
	}
	before := slices.Clone(l.elements)
	first, err := l.add(given)
	if err != nil {
		return err
	}
	if l.order != nil {
		for _, element := range first {
			if l.find(l.order, element) < 0 {
				return fmt.Errorf("$setElementOrder does not name %s, which the patch sets", l.identity(element))
			}
		}
		first = l.order
	}
	l.arrange(before, first)
	return nil
}

// replace replaces all elements by those of the patch.
func (l *patchedList) replace(given []any) error {
	l.elements = []any{}
	for _, element := range given {
		fields, _ := element.(map[string]any)
		switch directive, directed := fields[patchDirective]; {
		case !directed:
			l.elements = append(l.elements, element)
		case directive != "replace" || len(fields) > 1:
			return errors.New("the elements of this list have no names: give the whole list, or a list of operations with -t json")
		}
	}
	return nil
}

// add merges the elements of the patch into the list, and returns them.
func (l *patchedList) add(given []any) (added []any, err error) {
	isReplace := func(e any) bool { fields, _ := e.(map[string]any); return fields[patchDirective] == "replace" }
	if slices.ContainsFunc(given, isReplace) {
		l.elements, given = nil, slices.DeleteFunc(slices.Clone(given), isReplace)
	}
	for _, element := range given {
		fields, isObject := element.(map[string]any)
		if (l.key != "") != isObject || isObject && fields[l.key] == nil {
			text, _ := json.Marshal(element)
			return nil, fmt.Errorf("%s: want elements with %s", text, cmp.Or(l.key, "plain text"))
		}
		at := l.find(l.elements, element)
		if fields[patchDirective] == "delete" {
			if at >= 0 {
				l.elements = slices.Delete(l.elements, at, at+1)
			}
			continue
		}
		if isObject {
			var old map[string]any
			if at >= 0 {
				old, _ = l.elements[at].(map[string]any)
			}
			if element, err = mergeFields(old, fields, l.path); err != nil {
				return nil, err
			}
		}
		if at >= 0 {
			l.elements[at] = element
		} else {
			l.elements = append(l.elements, element)
		}
		added = append(added, element)
	}
	return added, nil
}

// arrange puts the elements named in order into this order. Every other element goes before the first ordered element that
// followed it in the list before.
func (l *patchedList) arrange(before, order []any) {
	var ordered, rest []any
	for _, element := range order {
		if at := l.find(l.elements, element); at >= 0 && l.find(ordered, element) < 0 {
			ordered = append(ordered, l.elements[at])
		}
	}
	for _, element := range l.elements {
		if l.find(ordered, element) < 0 {
			rest = append(rest, element)
		}
	}
	var result []any
	for _, element := range ordered {
		for len(rest) > 0 && l.find(before, element) > l.find(before, rest[0]) {
			result, rest = append(result, rest[0]), rest[1:]
		}
		result = append(result, element)
	}
	l.elements = append(result, rest...)
}

// find returns the index of the element in a list that has the identity of another one, or -1.
func (l *patchedList) find(list []any, element any) int {
	wanted := l.identity(element)
	return slices.IndexFunc(list, func(e any) bool { return l.identity(e) == wanted })
}

func (l *patchedList) identity(element any) string {
	if fields, ok := element.(map[string]any); ok && l.key != "" {
		element = fields[l.key]
	}
	text, _ := json.Marshal(element) // cannot fail, because the element was decoded from JSON
	return string(text)
}

package table_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// fake is a target that holds state, records the operations on it, and can be made to fail.
type fake struct {
	held  map[string]string
	fails map[string]string // operation, or operation and key, to: refuse (does nothing), lost (does it and says no)
	calls []string
}

var errRefused = errors.New("refused")

func (f *fake) do(op, key string, change func()) error {
	kind := f.fails[op+" "+key]
	if kind == "" {
		kind = f.fails[op]
	}
	call := op
	if key != "" {
		call += " " + key
	}
	if kind == "" || kind == "lost" {
		change()
	}
	if kind != "" {
		f.calls = append(f.calls, call+": "+kind)
		return errRefused
	}
	f.calls = append(f.calls, call)
	return nil
}

func (f *fake) Put(k, v string) error {
	return f.do("put", k, func() { f.held[k] = v })
}

func (f *fake) Delete(k string) error {
	return f.do("delete", k, func() { delete(f.held, k) })
}

func (f *fake) List() (map[string]string, error) {
	var held map[string]string
	err := f.do("list", "", func() { held = maps.Clone(f.held) })
	if err != nil {
		return nil, err
	}
	return held, nil
}

// drain returns the operations since the last call, sorted, because the order among entries does not matter.
func (f *fake) drain() []string {
	calls := f.calls
	f.calls = nil
	slices.Sort(calls)
	return calls
}

func (f *fake) String() string {
	var text []string
	for _, k := range slices.Sorted(maps.Keys(f.held)) {
		text = append(text, fmt.Sprintf("%s=%s", k, f.held[k]))
	}
	return fmt.Sprint(text)
}

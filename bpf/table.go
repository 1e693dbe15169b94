package bpf

import (
	"errors"
	"fmt"
	"iter"

	"github.com/cilium/ebpf"
)

// batch is how many entries are read at once.
const batch = 4096

// Table is one keyed table of the kernel.
type Table[K comparable, V any] struct {
	m    *ebpf.Map
	name string
}

func newTable[K comparable, V any](m *ebpf.Map, name string) Table[K, V] {
	return Table[K, V]{m: m, name: name}
}

// Put writes an entry, in place of the one with this key.
func (t Table[K, V]) Put(k K, v V) error {
	if err := t.m.Update(&k, &v, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("write %v to table %s: %w", k, t.name, t.explain(err))
	}
	return nil
}

// Delete deletes an entry. It is no error if there is none.
func (t Table[K, V]) Delete(k K) error {
	if err := t.m.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete %v from table %s: %w", k, t.name, err)
	}
	return nil
}

// Get reads an entry.
func (t Table[K, V]) Get(k K) (v V, found bool, err error) {
	err = t.m.Lookup(&k, &v)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return v, false, nil
	}
	if err != nil {
		return v, false, fmt.Errorf("read %v of table %s: %w", k, t.name, err)
	}
	return v, true, nil
}

// All reads all entries. Call the function after the sequence has ended: it returns the error that ended it, if any.
func (t Table[K, V]) All() (iter.Seq2[K, V], func() error) {
	var failed error
	seq := func(yield func(K, V) bool) {
		var k K
		var v V
		entries := t.m.Iterate()
		for entries.Next(&k, &v) {
			if !yield(k, v) {
				return
			}
		}
		if err := entries.Err(); err != nil {
			failed = fmt.Errorf("read table %s: %w", t.name, err)
		}
	}
	return seq, func() error { return failed }
}

// Size is how many entries the table can hold.
func (t Table[K, V]) Size() uint32 { return t.m.MaxEntries() }

func (t Table[K, V]) explain(err error) error {
	if isFull(err) {
		return fmt.Errorf("it is full at %d entries: %w", t.m.MaxEntries(), err)
	}
	return err
}

package table

import (
	"iter"
	"time"
)

// Status says how far a table is from the wanted state.
type Status struct {
	Name       string
	Wanted     int
	Programmed int // of the wanted entries
	Failed     int // entries whose last write or delete failed, and 1 more if the target cannot be listed
	Error      error
}

// Status counts the table's entries. Error is the failure that comes first in alphabetical order, so it stays the same while its
// cause does.
func (t *Table[K, V]) Status() Status {
	s := Status{Name: t.name, Wanted: len(t.wanted), Failed: len(t.failed), Error: t.listing.err}
	if s.Error != nil {
		s.Failed++
	}
	for k, v := range t.wanted {
		if t.holds(k, v) {
			s.Programmed++
		}
	}
	if s.Error == nil {
		for _, f := range t.failed {
			if s.Error == nil || f.err.Error() < s.Error.Error() {
				s.Error = f.err
			}
		}
	}
	return s
}

// Wanted iterates over the wanted entries: whether each is programmed, and the error of its last attempt.
func (t *Table[K, V]) Wanted() iter.Seq2[K, Entry[V]] {
	return func(yield func(K, Entry[V]) bool) {
		for k, v := range t.wanted {
			if !yield(k, Entry[V]{Value: v, Programmed: t.holds(k, v), Error: t.failed[k].err}) {
				return
			}
		}
	}
}

// Missing calls f with each wanted entry that is not programmed. It looks only at entries that are pending, which are few.
func (t *Table[K, V]) Missing(f func(K)) {
	for k := range t.pending {
		if v, wanted := t.wanted[k]; wanted && !t.holds(k, v) {
			f(k)
		}
	}
}

// Entry is one wanted entry's state.
type Entry[V any] struct {
	Value      V
	Programmed bool
	Error      error
}

// Retry is when the next failed write is due again. It returns false if none failed.
func (t *Table[K, V]) Retry() (time.Time, bool) {
	var at time.Time
	if t.listing.err != nil {
		at = t.listing.again
	}
	for _, f := range t.failed {
		if at.IsZero() || f.again.Before(at) {
			at = f.again
		}
	}
	return at, !at.IsZero()
}

// Held iterates over the programmed entries, wanted or not.
func (t *Table[K, V]) Held() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, v := range t.programmed {
			if !yield(k, v) {
				return
			}
		}
	}
}

// Wants returns the state of one entry. It returns false if the entry is not wanted.
func (t *Table[K, V]) Wants(k K) (Entry[V], bool) {
	v, wanted := t.wanted[k]
	return Entry[V]{Value: v, Programmed: wanted && t.holds(k, v), Error: t.failed[k].err}, wanted
}

// Holds returns the programmed value of a key, wanted or not. It returns false if there is none.
func (t *Table[K, V]) Holds(k K) (V, bool) {
	v, held := t.programmed[k]
	return v, held
}

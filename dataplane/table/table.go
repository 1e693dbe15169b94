package table

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Target has the entries of a table. Its operations are idempotent: Put of a present entry and Delete of a missing one succeed.
// Delete may be called for an entry whose Put failed; it must not delete entries of other programs.
type Target[K comparable, V any] interface {
	Put(K, V) error
	Delete(K) error
	// List returns every entry of ours in the target. It is called at the start and after Resync. Entries that differ from the
	// programmed ones after a Resync were changed by another program.
	List() (map[K]V, error)
}

// Batches is a Target that writes many entries faster together than one by one. Each method returns one error for each entry.
type Batches[K comparable, V any] interface {
	PutAll([]K, []V) []error
	DeleteAll([]K) []error
}

// Table is one reconciled table. New makes one.
type Table[K comparable, V any] struct {
	name   string
	target Target[K, V]
	equal  func(a, b V) bool

	wanted     map[K]V
	programmed map[K]V        // as far as is known
	pending    map[K]struct{} // wanted and programmed may differ; Fill and Sweep empty it
	failed     map[K]failure  // the last attempt failed; also in pending
	uncertain  map[K]struct{} // a write failed, or Rewrite was called: the target may differ from programmed
	unknown    bool           // the target must be listed again
	listed     bool           // the target was listed once: other programs made the differences at the next listing
	listing    failure        // of the last attempt to list

	drift   map[K]Change // entries that another program changed and that are not as wanted again yet
	repairs []Repair
}

// failure is the last error of an entry or of the listing, and the time of the next attempt.
type failure struct {
	err      error
	attempts int
	again    time.Time
}

// The pause between attempts at one entry doubles from firstRetry to lastRetry.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// New returns an empty table. The target is listed when the table is first reconciled.
func New[K comparable, V any](name string, target Target[K, V], equal func(a, b V) bool) *Table[K, V] {
	return &Table[K, V]{
		name: name, target: target, equal: equal, unknown: true,
		wanted: map[K]V{}, programmed: map[K]V{}, pending: map[K]struct{}{}, failed: map[K]failure{}, uncertain: map[K]struct{}{},
		drift: map[K]Change{},
	}
}

// Want asks for an entry. A failed entry whose value changes is tried again at once.
func (t *Table[K, V]) Want(k K, v V) {
	if old, there := t.wanted[k]; there && t.equal(old, v) {
		return
	}
	t.wanted[k] = v
	t.mark(k)
}

// Unwant no longer asks for an entry.
func (t *Table[K, V]) Unwant(k K) {
	if _, there := t.wanted[k]; !there {
		return
	}
	delete(t.wanted, k)
	t.mark(k)
}

// WantExactly asks for these entries and no others.
func (t *Table[K, V]) WantExactly(entries map[K]V) {
	for k := range t.wanted {
		if _, keep := entries[k]; !keep {
			t.Unwant(k)
		}
	}
	for k, v := range entries {
		t.Want(k, v)
	}
}

func (t *Table[K, V]) mark(k K) {
	t.pending[k] = struct{}{}
	delete(t.failed, k)
	delete(t.drift, k) // the write that follows is no repair
}

// Resync says that another program may have changed the target: the next Fill or Sweep lists it and repairs the difference.
func (t *Table[K, V]) Resync() {
	t.unknown = true
	t.listing = failure{}
}

// Lost says that another program has removed an entry: the next Fill writes it again and counts a repair.
func (t *Table[K, V]) Lost(k K) {
	v, want := t.wanted[k]
	if !want || !t.holds(k, v) {
		return
	}
	delete(t.programmed, k)
	t.mark(k)
	t.drift[k] = Gone
}

// Rewrite says that one entry may be missing or different in the target: the next Fill writes it again.
func (t *Table[K, V]) Rewrite(k K) {
	t.uncertain[k] = struct{}{}
	t.mark(k)
}

// Fill writes the wanted entries that are not programmed. It goes on after an error, and returns the first five.
func (t *Table[K, V]) Fill(now time.Time) error {
	errs := []error{t.list(now)}
	var keys []K
	var values []V
	for k := range t.pending {
		v, want := t.wanted[k]
		if !want || t.failed[k].again.After(now) {
			continue
		}
		if t.holds(k, v) {
			t.done(k)
			continue
		}
		keys, values = append(keys, k), append(values, v)
	}
	for i, err := range putAll(t.target, keys, values) {
		k := keys[i]
		if err != nil {
			t.uncertain[k] = struct{}{}
			errs = append(errs, t.fail(k, "write", err, now))
			continue
		}
		t.programmed[k] = values[i]
		t.repaired(k)
		t.done(k)
	}
	return t.join(errs)
}

// Sweep deletes the programmed entries that are not wanted. The input must be complete. It goes on after an error; entries that it
// could not delete stay pending. While the target cannot be listed, unknown entries in it stay.
func (t *Table[K, V]) Sweep(now time.Time) error {
	errs := []error{t.list(now)}
	var keys []K
	gone := func(k K) {
		delete(t.programmed, k)
		t.repaired(k)
		t.done(k)
	}
	for k := range t.pending {
		if _, want := t.wanted[k]; want || t.failed[k].again.After(now) {
			continue
		}
		_, there := t.programmed[k]
		_, uncertain := t.uncertain[k]
		if there || uncertain {
			keys = append(keys, k)
		} else {
			gone(k)
		}
	}
	for i, err := range deleteAll(t.target, keys) {
		k := keys[i]
		if err != nil {
			t.uncertain[k] = struct{}{}
			errs = append(errs, t.fail(k, "delete", err, now))
			continue
		}
		gone(k)
	}
	return t.join(errs)
}

// putAll writes entries, together if the target can.
func putAll[K comparable, V any](target Target[K, V], keys []K, values []V) []error {
	if b, can := target.(Batches[K, V]); can && len(keys) > 0 {
		return b.PutAll(keys, values)
	}
	errs := make([]error, len(keys))
	for i, k := range keys {
		errs[i] = target.Put(k, values[i])
	}
	return errs
}

func deleteAll[K comparable, V any](target Target[K, V], keys []K) []error {
	if b, can := target.(Batches[K, V]); can && len(keys) > 0 {
		return b.DeleteAll(keys)
	}
	errs := make([]error, len(keys))
	for i, k := range keys {
		errs[i] = target.Delete(k)
	}
	return errs
}

// Reconcile calls Fill, and Sweep if the input is complete.
func (t *Table[K, V]) Reconcile(now time.Time, inSync bool) error {
	err := t.Fill(now)
	if inSync {
		err = errors.Join(err, t.Sweep(now))
	}
	return err
}

// list lists the target if that is due. As long as it fails, Fill writes every wanted entry.
func (t *Table[K, V]) list(now time.Time) error {
	if !t.unknown || t.listing.again.After(now) {
		return nil
	}
	held, err := t.target.List()
	if err != nil {
		t.listing = t.listing.next(fmt.Errorf("%s: list the entries in the kernel: %w", t.name, err), now)
		return t.listing.err
	}
	t.unknown, t.listing = false, failure{}
	if t.listed {
		t.compare(held)
	}
	t.listed = true
	t.programmed = maps.Clone(held)
	if t.programmed == nil {
		t.programmed = map[K]V{}
	}
	clear(t.uncertain)
	for k := range t.programmed {
		t.pending[k] = struct{}{}
	}
	for k := range t.wanted {
		t.pending[k] = struct{}{}
	}
	return nil
}

func (t *Table[K, V]) holds(k K, v V) bool {
	_, uncertain := t.uncertain[k]
	old, there := t.programmed[k]
	return there && !uncertain && t.equal(old, v)
}

func (t *Table[K, V]) fail(k K, verb string, err error, now time.Time) error {
	f := t.failed[k].next(fmt.Errorf("%s: %s %v: %w", t.name, verb, k, err), now)
	t.failed[k] = f
	return f.err
}

// mostTold is the number of errors that one pass returns. Every entry may fail.
const mostTold = 5

// join is errors.Join of the first few errors, with the number of the others.
func (t *Table[K, V]) join(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if more := len(errs) - mostTold; more > 0 {
		errs = append(errs[:mostTold], fmt.Errorf("%s: %d more entries failed", t.name, more))
	}
	return errors.Join(errs...)
}

func (t *Table[K, V]) done(k K) {
	delete(t.pending, k)
	delete(t.failed, k)
	delete(t.uncertain, k)
	delete(t.drift, k)
}

func (f failure) next(err error, now time.Time) failure {
	wait := min(firstRetry<<min(f.attempts, 20), lastRetry)
	return failure{err: err, attempts: f.attempts + 1, again: now.Add(wait)}
}

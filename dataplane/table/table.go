package table

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Target is where the entries of a table live. Its operations are idempotent: Put of what is there and Delete of
// what is not succeed. Delete may be asked for an entry whose Put failed; it must leave alone what is not ours.
type Target[K comparable, V any] interface {
	Put(K, V) error
	Delete(K) error
	// List returns every entry that the target holds and that is ours. It is asked at the start and after Resync.
	// Entries that then differ from the programmed ones were changed by somebody else.
	List() (map[K]V, error)
}

// Table is one reconciled table. Make it with New.
type Table[K comparable, V any] struct {
	name   string
	target Target[K, V]
	equal  func(a, b V) bool

	wanted     map[K]V
	programmed map[K]V        // as far as we know
	dirty      map[K]struct{} // wanted and programmed may differ
	failed     map[K]failure  // the last attempt failed; also in dirty
	doubt      map[K]struct{} // a write failed: there may be something other than programmed says
	unknown    bool           // programmed must be listed anew
	listed     bool           // programmed was listed once: what differs at the next listing was changed by others
	listing    failure        // of the last attempt to list

	drift   map[K]Change // found changed in the target, and not yet as wanted again
	repairs []Repair
}

// failure is an entry's, or the listing's, last error and when it is tried again.
type failure struct {
	err      error
	attempts int
	again    time.Time
}

// Backoff between attempts at one entry.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// New returns an empty table. The target is listed when the table is first reconciled.
func New[K comparable, V any](name string, target Target[K, V], equal func(a, b V) bool) *Table[K, V] {
	return &Table[K, V]{
		name: name, target: target, equal: equal, unknown: true,
		wanted: map[K]V{}, programmed: map[K]V{}, dirty: map[K]struct{}{}, failed: map[K]failure{}, doubt: map[K]struct{}{},
		drift: map[K]Change{},
	}
}

// Want asks for an entry. A failed entry whose value changes is tried again at once.
func (t *Table[K, V]) Want(k K, v V) {
	if old, there := t.wanted[k]; there && t.equal(old, v) {
		return
	}
	t.wanted[k] = v
	t.touch(k)
}

// Unwant no longer asks for an entry.
func (t *Table[K, V]) Unwant(k K) {
	if _, there := t.wanted[k]; !there {
		return
	}
	delete(t.wanted, k)
	t.touch(k)
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

func (t *Table[K, V]) touch(k K) {
	t.dirty[k] = struct{}{}
	delete(t.failed, k)
	delete(t.drift, k) // what is written now has another cause
}

// Resync says that the target may have changed behind our back: the next pass lists it and repairs the difference.
func (t *Table[K, V]) Resync() {
	t.unknown = true
	t.listing = failure{}
}

// Rewrite says that one entry may be gone or different in the target.
func (t *Table[K, V]) Rewrite(k K) {
	t.doubt[k] = struct{}{}
	t.touch(k)
}

// Fill writes what is wanted and not programmed. It keeps going after an error, and returns the first few.
func (t *Table[K, V]) Fill(now time.Time) error {
	errs := []error{t.list(now)}
	for k := range t.dirty {
		v, want := t.wanted[k]
		if !want || t.failed[k].again.After(now) {
			continue
		}
		if t.holds(k, v) {
			t.settle(k)
			continue
		}
		if err := t.target.Put(k, v); err != nil {
			t.doubt[k] = struct{}{}
			errs = append(errs, t.fail(k, "write", err, now))
			continue
		}
		t.programmed[k] = v
		t.repaired(k)
		t.settle(k)
	}
	return t.join(errs)
}

// Sweep deletes what is programmed and not wanted. Call it only when the input is complete. It keeps going after an
// error; the entries it could not delete stay pending. While the target cannot be listed, strangers in it stay.
func (t *Table[K, V]) Sweep(now time.Time) error {
	errs := []error{t.list(now)}
	for k := range t.dirty {
		if _, want := t.wanted[k]; want || t.failed[k].again.After(now) {
			continue
		}
		_, there := t.programmed[k]
		_, doubt := t.doubt[k]
		if there || doubt {
			if err := t.target.Delete(k); err != nil {
				t.doubt[k] = struct{}{}
				errs = append(errs, t.fail(k, "delete", err, now))
				continue
			}
		}
		delete(t.programmed, k)
		t.repaired(k)
		t.settle(k)
	}
	return t.join(errs)
}

// Reconcile is Fill, then Sweep when the input is in sync.
func (t *Table[K, V]) Reconcile(now time.Time, inSync bool) error {
	err := t.Fill(now)
	if inSync {
		err = errors.Join(err, t.Sweep(now))
	}
	return err
}

// list learns what the target holds, when that is not known. Without that knowledge every wanted entry is written.
func (t *Table[K, V]) list(now time.Time) error {
	if !t.unknown || t.listing.again.After(now) {
		return nil
	}
	held, err := t.target.List()
	if err != nil {
		t.listing = t.listing.next(fmt.Errorf("%s: list what is there: %w", t.name, err), now)
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
	clear(t.doubt)
	for k := range t.programmed {
		t.dirty[k] = struct{}{}
	}
	for k := range t.wanted {
		t.dirty[k] = struct{}{}
	}
	return nil
}

func (t *Table[K, V]) holds(k K, v V) bool {
	_, doubt := t.doubt[k]
	old, there := t.programmed[k]
	return there && !doubt && t.equal(old, v)
}

func (t *Table[K, V]) fail(k K, verb string, err error, now time.Time) error {
	f := t.failed[k].next(fmt.Errorf("%s: %s %v: %w", t.name, verb, k, err), now)
	t.failed[k] = f
	return f.err
}

// mostTold is how many errors of one pass are told. There may be as many as entries.
const mostTold = 5

// join is errors.Join of the first few errors, with the number of the others.
func (t *Table[K, V]) join(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if more := len(errs) - mostTold; more > 0 {
		errs = append(errs[:mostTold], fmt.Errorf("%s: %d more entries failed", t.name, more))
	}
	return errors.Join(errs...)
}

func (t *Table[K, V]) settle(k K) {
	delete(t.dirty, k)
	delete(t.failed, k)
	delete(t.doubt, k)
	delete(t.drift, k)
}

func (f failure) next(err error, now time.Time) failure {
	wait := min(firstRetry<<min(f.attempts, 20), lastRetry)
	return failure{err: err, attempts: f.attempts + 1, again: now.Add(wait)}
}

package datastore

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/margay-project/margay/datastore/kv"
)

// overlay keeps writes in memory, over a KV that it only reads. It reads each key once and remembers the answer, so that a transaction
// sees one state of a key. mu guards all fields below it.
type overlay struct {
	KV

	mu      sync.Mutex
	known   map[string]*base  // by key: the entry of the KV below
	written map[string]*Entry // by key; nil for a deleted key
	spans   []Condition       // the conditions on spans of all commits
	bytes   int               // of keys and values of all writes
	last    int64             // revision of the last write, or of the KV below
}

// base is the entry of a key in the KV below an overlay.
type base struct {
	entry *Entry // nil: the key does not exist
	at    int64  // revision of the KV when it was read
	use   use
}

// use says why a key was read. A later use only raises it.
type use int

const (
	fetched  use = iota // read ahead; nothing depends on it
	seen                // the transaction has looked at it
	required            // a change is correct only if the key has not changed
)

func newOverlay(below KV) *overlay {
	return &overlay{KV: below, known: map[string]*base{}, written: map[string]*Entry{}}
}

// Close does nothing: the KV below belongs to the store that this one was made from.
func (o *overlay) Close() error { return nil }

// Range implements kv.KV. It shows the writes of the overlay, whatever revision is asked for.
func (o *overlay) Range(ctx context.Context, span Span, revision int64, limit int) (Page, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if revision != 0 || span != kv.Single(span.From) {
		return o.read(ctx, span, revision, limit)
	}
	if err := o.learn(ctx, []string{span.From}); err != nil {
		return Page{}, err
	}
	page := Page{Revision: o.last}
	if entry := o.current(span.From, seen); entry != nil {
		page.Entries = []Entry{*entry}
	}
	return page, nil
}

// Lookup implements kv.KV.
func (o *overlay) Lookup(ctx context.Context, keys []string) ([]*Entry, int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.learn(ctx, keys); err != nil {
		return nil, 0, err
	}
	entries := make([]*Entry, len(keys))
	for i, key := range keys {
		entries[i] = o.current(key, seen)
	}
	return entries, o.last, nil
}

// learn reads the keys that were not read yet.
func (o *overlay) learn(ctx context.Context, keys []string) error {
	var unknown []string
	for _, key := range keys {
		if _, known := o.known[key]; !known {
			unknown = append(unknown, key)
		}
	}
	for part := range slices.Chunk(unknown, kv.MostKeys) {
		entries, revision, err := o.KV.Lookup(ctx, part)
		if err != nil {
			return err
		}
		o.last = max(o.last, revision)
		for i, key := range part {
			o.known[key] = &base{entry: entries[i], at: revision}
		}
	}
	return nil
}

// current returns the entry of a key that was read before, and raises its use.
func (o *overlay) current(key string, purpose use) *Entry {
	below := o.known[key]
	below.use = max(below.use, purpose)
	if entry, changed := o.written[key]; changed {
		return entry
	}
	return below.entry
}

func (o *overlay) read(ctx context.Context, span Span, revision int64, limit int) (Page, error) {
	page, err := o.KV.Range(ctx, span, revision, limit)
	if err != nil {
		return page, err
	}
	o.last = max(o.last, page.Revision)
	end := span.To
	if page.More && len(page.Entries) > 0 {
		end = page.Entries[len(page.Entries)-1].Key + "\x00"
	}
	entries := slices.DeleteFunc(slices.Clone(page.Entries), func(e Entry) bool { _, hidden := o.written[e.Key]; return hidden })
	for key, entry := range o.written {
		if entry != nil && span.From <= key && key < end {
			entries = append(entries, *entry)
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	switch {
	case limit > 0 && len(entries) > limit:
		entries, page.More = entries[:limit], true
	case page.More && len(entries) == 0:
		return o.read(ctx, Span{From: end, To: span.To}, revision, limit) // every entry of the page is deleted: read the next page
	}
	page.Entries = entries
	return page, nil
}

// Commit implements kv.KV. It keeps conditions on spans for the commit to the KV below and treats them as met: they guard against
// changes by other programs, which the overlay does not see.
func (o *overlay) Commit(ctx context.Context, conditions []Condition, writes []Write) (Outcome, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.learn(ctx, keysOf(conditions, writes)); err != nil {
		return Outcome{}, err
	}
	outcome := Outcome{Done: true}
	for _, c := range conditions {
		if c.Key != "" {
			outcome.Done = outcome.Done && kv.RevisionOf(o.current(c.Key, seen)) == c.Revision
		}
	}
	for _, w := range writes {
		outcome.Current = append(outcome.Current, o.current(w.Key, seen))
	}
	if outcome.Done {
		o.keep(conditions, writes, outcome.Current)
	}
	outcome.Revision = o.last
	return outcome, nil
}

// keysOf returns the keys that a commit compares or writes.
func keysOf(conditions []Condition, writes []Write) (keys []string) {
	for _, c := range conditions {
		if c.Key != "" {
			keys = append(keys, c.Key)
		}
	}
	for _, w := range writes {
		keys = append(keys, w.Key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (o *overlay) keep(conditions []Condition, writes []Write, current []*Entry) {
	for _, c := range conditions {
		if c.Key == "" {
			o.spans = append(o.spans, c)
			continue
		}
		o.current(c.Key, required)
	}
	o.last++
	for i, w := range writes {
		o.current(w.Key, required)
		o.bytes += len(w.Key) + len(w.Value)
		if w.Delete {
			o.written[w.Key] = nil
			continue
		}
		entry := &Entry{Key: w.Key, Value: slices.Clone(w.Value), Revision: o.last, Created: o.last}
		if current[i] != nil {
			entry.Created = current[i].Created
		}
		o.written[w.Key] = entry
	}
}

// Watch implements kv.KV. An overlay cannot be watched: the channel is closed.
func (o *overlay) Watch(context.Context, Span, int64) <-chan Changes {
	closed := make(chan Changes)
	close(closed)
	return closed
}

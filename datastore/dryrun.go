package datastore

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/margay-project/margay/datastore/kv"
)

// DryRun is a store over the same objects that keeps what is written to itself: every check is made, each write is seen by
// those after it, and nobody else sees any. It cannot be watched.
func (s *Store) DryRun() *Store {
	return New(&overlay{KV: s.kv, written: map[string]*Entry{}})
}

// overlay keeps writes in memory, over a KV that is only read.
type overlay struct {
	KV

	mu      sync.Mutex
	written map[string]*Entry // nil: deleted
	last    int64             // revision of the last write
}

// Close leaves the KV below open; it belongs to the store that this one was made from.
func (o *overlay) Close() error { return nil }

// Range implements KV. What was written is seen whatever the revision.
func (o *overlay) Range(ctx context.Context, span Span, revision int64, limit int) (Page, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.read(ctx, span, revision, limit)
}

func (o *overlay) read(ctx context.Context, span Span, revision int64, limit int) (Page, error) {
	page, err := o.KV.Range(ctx, span, revision, limit)
	if err != nil {
		return page, err
	}
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
		return o.read(ctx, Span{From: end, To: span.To}, revision, limit) // all of the page is deleted
	}
	page.Entries = entries
	return page, nil
}

// Commit implements KV. A condition on a span always holds: it guards against changes between two reads, and a dry run
// reports one moment.
func (o *overlay) Commit(ctx context.Context, conditions []Condition, writes []Write) (Outcome, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	outcome := Outcome{Done: true}
	for _, c := range conditions {
		if c.Key == "" {
			continue
		}
		entry, at, err := o.one(ctx, c.Key)
		if err != nil {
			return Outcome{}, err
		}
		o.last = max(o.last, at)
		if entry == nil {
			entry = &Entry{}
		}
		outcome.Done = outcome.Done && entry.Revision == c.Revision
	}
	for _, w := range writes {
		entry, at, err := o.one(ctx, w.Key)
		if err != nil {
			return Outcome{}, err
		}
		o.last = max(o.last, at)
		outcome.Current = append(outcome.Current, entry)
	}
	if outcome.Done {
		o.keep(writes, outcome.Current)
	}
	outcome.Revision = o.last
	return outcome, nil
}

// one is a key's entry, and the revision of the whole store.
func (o *overlay) one(ctx context.Context, key string) (*Entry, int64, error) {
	page, err := o.read(ctx, kv.Single(key), 0, 1)
	if err != nil || len(page.Entries) == 0 {
		return nil, page.Revision, err
	}
	return &page.Entries[0], page.Revision, nil
}

func (o *overlay) keep(writes []Write, current []*Entry) {
	o.last++
	for i, w := range writes {
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

// Watch implements KV: nothing can be watched.
func (o *overlay) Watch(context.Context, Span, int64) <-chan Changes {
	closed := make(chan Changes)
	close(closed)
	return closed
}

package kv

import (
	"context"
	"errors"
)

// KV is what is asked of etcd: a flat, versioned map of keys to values with one counter of revisions for all keys.
type KV interface {
	// Range reads up to limit entries of the span in key order, as they were at a revision; 0 asks for the newest.
	// ErrCompacted says that the revision is no longer kept.
	Range(ctx context.Context, span Span, revision int64, limit int) (Page, error)

	// Lookup reads single keys (at most MostKeys) as they are at one moment, and says at which revision; nil for a key that
	// does not exist.
	Lookup(ctx context.Context, keys []string) ([]*Entry, int64, error)

	// Commit makes all writes (to at most MostKeys keys, under as many conditions, unless the server allows more) in one
	// revision if every condition holds, and none of them otherwise.
	Commit(ctx context.Context, conditions []Condition, writes []Write) (Outcome, error)

	// Watch reports every change of the span from a revision on, in order, and never a part of a revision. The channel is
	// closed after an element with Err, and when the context ends.
	Watch(ctx context.Context, span Span, from int64) <-chan Changes

	Close() error
}

// ErrCompacted says that the history that was asked for is no longer kept.
var ErrCompacted = errors.New("the required revision has been compacted")

// MostKeys is how many operations a request to etcd may have, unless the server was told otherwise.
const MostKeys = 128

// MostBytes is how large a request may be. The embedded server takes that much: a long list of networks needs more than
// etcd's usual 1.5 MiB. Another server may have been told otherwise.
const MostBytes = 8 << 20

// Root is how every key of a datastore begins, in a Calico datastore as in ours.
const Root = "/calico/"

// Span is the keys from From up to but not including To.
type Span struct{ From, To string }

// Prefix is the span of all keys that begin with a text.
func Prefix(text string) Span { return Span{From: text, To: afterPrefix(text)} }

// Single is the span of one key.
func Single(key string) Span { return Span{From: key, To: key + "\x00"} }

// Holds says whether a key is in the span.
func (s Span) Holds(key string) bool { return s.From <= key && key < s.To }

// afterPrefix is the first key after all those that begin with a text.
func afterPrefix(text string) string {
	end := []byte(text)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return string(end[:i+1])
		}
	}
	return "\xff"
}

// Entry is a key with its value.
type Entry struct {
	Key      string
	Value    []byte // not to be changed
	Revision int64  // of the last write of this key
	Created  int64  // revision at which the key came into being
}

// RevisionOf is the revision of an entry in a Condition; 0 for nil, a key that does not exist.
func RevisionOf(entry *Entry) int64 {
	if entry == nil {
		return 0
	}
	return entry.Revision
}

// Page is a part of a span.
type Page struct {
	Entries  []Entry
	More     bool   // entries follow after the last one
	Revision int64  // of the whole store when it answered
	Store    uint64 // identity of the store: another one may stand behind the same address after a disaster
}

// Condition must hold for a commit to take place: the last write of the key was at Revision (0: the key does not exist);
// or, when Span is set, no key in it was written after Revision.
type Condition struct {
	Key      string
	Span     Span
	Revision int64
}

// Write puts a value, or deletes the key when Delete is set.
type Write struct {
	Key    string
	Value  []byte
	Delete bool
}

// Outcome of a commit. Current holds what the written keys held before, in the order of the writes, nil for a key that did
// not exist.
type Outcome struct {
	Done     bool
	Revision int64
	Current  []*Entry

	// Echo, with Done false, says that an attempt got no answer, the commit was made once more and refused, and the keys
	// are now as it would have made them: by that attempt, or by somebody who wanted the same.
	Echo bool
}

// Changes are the changes of one or more whole revisions. One without Events tells only that nothing was missed up to
// Revision.
type Changes struct {
	Events   []Event
	Revision int64
	Err      error
}

// Event is one change: a put, or a deletion when Delete is set, which then has no value.
type Event struct {
	Entry
	Delete bool
}

// Get reads one key; nil when it does not exist.
func Get(ctx context.Context, kv KV, key string, revision int64) (*Entry, error) {
	page, err := kv.Range(ctx, Single(key), revision, 1)
	if err != nil || len(page.Entries) == 0 {
		return nil, err
	}
	return &page.Entries[0], nil
}

// PageSize is how many entries one request reads. Larger pages hold up other users of the server.
const PageSize = 1000

// Each reads a whole span in pages at one revision and returns that revision; 0 begins at the newest.
func Each(ctx context.Context, kv KV, span Span, revision int64, visit func(Page) error) (int64, error) {
	for {
		page, err := kv.Range(ctx, span, revision, PageSize)
		if err != nil {
			return revision, err
		}
		if revision == 0 {
			revision = page.Revision
		}
		if err := visit(page); err != nil {
			return revision, err
		}
		if !page.More || len(page.Entries) == 0 {
			return revision, nil
		}
		span.From = page.Entries[len(page.Entries)-1].Key + "\x00"
	}
}

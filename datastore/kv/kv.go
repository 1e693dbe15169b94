package kv

import (
	"context"
	"errors"
)

// KV is an etcd: a flat, versioned map of keys to values with one counter of revisions for all keys. Any number of goroutines may use
// it.
type KV interface {
	// Range reads up to limit entries of the span in key order, as they were at a revision; 0 is the newest revision. The error is
	// ErrCompacted if the store no longer has the revision.
	Range(ctx context.Context, span Span, revision int64, limit int) (Page, error)

	// Lookup reads single keys, at most MostKeys, at one revision, and returns this revision. The entry of a key that does not
	// exist is nil.
	Lookup(ctx context.Context, keys []string) ([]*Entry, int64, error)

	// Commit makes all writes in one revision if every condition holds, and none of them otherwise. Unless the server allows more,
	// at most MostKeys writes and MostKeys conditions are accepted. After an error the commit may have been made.
	Commit(ctx context.Context, conditions []Condition, writes []Write) (Outcome, error)

	// Watch reports every change of the span from a revision on, in order. An element never has only a part of a revision. The
	// channel is closed after an element with Err, and when the context ends.
	Watch(ctx context.Context, span Span, from int64) <-chan Changes

	// Close ends the connection and every watch.
	Close() error
}

// ErrCompacted says that the store no longer has the history that was asked for.
var ErrCompacted = errors.New("the required revision has been compacted")

// MostKeys is the largest number of operations in a request, by default (etcd --max-txn-ops).
const MostKeys = 128

// MostBytes is the largest request of the client and of the embedded server, in bytes: a long list of networks needs more than
// etcd's default of 1.5 MiB. Other servers may accept less (etcd --max-request-bytes).
const MostBytes = 8 << 20

// Root is the prefix of every key of a datastore, in Calico and in Margay.
const Root = "/calico/"

// Span is the keys from From up to but not including To.
type Span struct{ From, To string }

// Prefix returns the span of all keys that begin with a text.
func Prefix(text string) Span { return Span{From: text, To: afterPrefix(text)} }

// Single returns the span of one key.
func Single(key string) Span { return Span{From: key, To: key + "\x00"} }

// Holds says whether a key is in the span.
func (s Span) Holds(key string) bool { return s.From <= key && key < s.To }

// afterPrefix returns the first key after all keys that begin with a text.
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
	Value    []byte // must not be changed
	Revision int64  // of the last write of this key
	Created  int64  // revision at which the key was created
}

// RevisionOf returns the revision of an entry for a Condition: 0 for nil, a key that does not exist.
func RevisionOf(entry *Entry) int64 {
	if entry == nil {
		return 0
	}
	return entry.Revision
}

// Page is a part of a span.
type Page struct {
	Entries  []Entry
	More     bool   // the span has more entries after the last one
	Revision int64  // revision of the whole store at the time of the answer
	Store    uint64 // identity of the store: after a disaster, another store may have the same address
}

// Condition must hold for a commit: the last write of Key was at Revision; 0 means that the key does not exist. With an empty Key, no
// key of Span was written after Revision; a deletion does not count.
type Condition struct {
	Key      string
	Span     Span
	Revision int64
}

// Write puts a value, or deletes the key if Delete is set.
type Write struct {
	Key    string
	Value  []byte
	Delete bool
}

// Outcome is the result of a commit. Current holds the entries of the written keys before the commit, in the order of the writes; nil
// for a key that did not exist.
type Outcome struct {
	Done     bool
	Revision int64
	Current  []*Entry

	// Echo is set only if Done is false. The first attempt got no answer, a second one was refused, and the keys now have the
	// values that the commit wanted: from the first attempt, or from another program that wrote the same.
	Echo bool
}

// Changes are all changes of one or more revisions. Without Events, there was no change of the span up to Revision.
type Changes struct {
	Events   []Event
	Revision int64
	Err      error
}

// Event is one change: a put, or, if Delete is set, a deletion, which has no value.
type Event struct {
	Entry
	Delete bool
}

// Get reads one key at a revision; 0 is the newest. The entry is nil if the key does not exist.
func Get(ctx context.Context, kv KV, key string, revision int64) (*Entry, error) {
	page, err := kv.Range(ctx, Single(key), revision, 1)
	if err != nil || len(page.Entries) == 0 {
		return nil, err
	}
	return &page.Entries[0], nil
}

// PageSize is the largest number of entries that one request of Each reads. Larger pages delay other users of the server.
const PageSize = 1000

// Each reads a whole span in pages, all at one revision, and returns this revision; 0 is the newest. It calls visit at least once, and
// stops at an error of visit and returns that.
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

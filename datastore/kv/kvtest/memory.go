package kvtest

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"

	"github.com/margay-project/margay/datastore/kv"
)

// Memory is a kv.KV in memory. It keeps all revisions until Compact. mu guards all fields.
type Memory struct {
	mu        sync.Mutex
	revision  int64
	compacted int64 // revisions before this one cannot be read or watched
	keys      []string
	versions  map[string][]kv.Event // of each key, oldest first
	history   []kv.Event            // of all keys, oldest first, from the compacted revision on
	changed   chan struct{}         // closed at the next change
	broken    chan struct{}         // closed to end every watch with an error
	offline   error                 // the error of every request; nil while the store is online
	closed    bool
}

var errInterrupted = errors.New("the watch was interrupted")

// NewMemory returns an empty store at revision 1, as a new etcd.
func NewMemory() *Memory {
	return &Memory{revision: 1, versions: map[string][]kv.Event{}, changed: make(chan struct{}), broken: make(chan struct{})}
}

// Range implements kv.KV.
func (m *Memory) Range(ctx context.Context, span kv.Span, revision int64, limit int) (kv.Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.answers(ctx); err != nil {
		return kv.Page{}, err
	}
	if revision == 0 {
		revision = m.revision
	}
	if revision < m.compacted {
		return kv.Page{}, kv.ErrCompacted
	}
	if revision > m.revision {
		return kv.Page{}, fmt.Errorf("revision %d is in the future, the store is at %d", revision, m.revision)
	}
	page := kv.Page{Revision: m.revision, Store: 1}
	for i := sort.SearchStrings(m.keys, span.From); i < len(m.keys) && m.keys[i] < span.To; i++ {
		entry, ok := m.at(m.keys[i], revision)
		if !ok {
			continue
		}
		if limit > 0 && len(page.Entries) == limit {
			page.More = true
			break
		}
		page.Entries = append(page.Entries, entry)
	}
	return page, nil
}

// Lookup implements kv.KV.
func (m *Memory) Lookup(ctx context.Context, keys []string) ([]*kv.Entry, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.answers(ctx); err != nil {
		return nil, 0, err
	}
	entries := make([]*kv.Entry, len(keys))
	for i, key := range keys {
		if entry, ok := m.at(key, m.revision); ok {
			entries[i] = &entry
		}
	}
	return entries, m.revision, nil
}

// at returns the entry of a key at a revision; false if the key did not exist.
func (m *Memory) at(key string, revision int64) (kv.Entry, bool) {
	versions := m.versions[key]
	after := sort.Search(len(versions), func(i int) bool { return versions[i].Revision > revision })
	if after == 0 || versions[after-1].Delete {
		return kv.Entry{}, false
	}
	return versions[after-1].Entry, true
}

// Commit implements kv.KV.
func (m *Memory) Commit(ctx context.Context, conditions []kv.Condition, writes []kv.Write) (kv.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.answers(ctx); err != nil {
		return kv.Outcome{}, err
	}
	outcome := kv.Outcome{Done: true, Revision: m.revision}
	for _, c := range conditions {
		outcome.Done = outcome.Done && m.holds(c)
	}
	for _, w := range writes {
		if before, ok := m.at(w.Key, m.revision); ok {
			outcome.Current = append(outcome.Current, &before)
		} else {
			outcome.Current = append(outcome.Current, nil)
		}
	}
	if !outcome.Done {
		return outcome, nil
	}
	next := m.revision + 1
	for i, w := range writes {
		if w.Delete && outcome.Current[i] == nil {
			continue // nothing changes, so there is no new revision
		}
		m.write(w, outcome.Current[i], next)
	}
	if m.revision == next {
		close(m.changed)
		m.changed = make(chan struct{})
	}
	outcome.Revision = m.revision
	return outcome, nil
}

func (m *Memory) holds(c kv.Condition) bool {
	if c.Key != "" {
		entry, _ := m.at(c.Key, m.revision)
		return entry.Revision == c.Revision
	}
	for i := sort.SearchStrings(m.keys, c.Span.From); i < len(m.keys) && m.keys[i] < c.Span.To; i++ {
		if entry, ok := m.at(m.keys[i], m.revision); ok && entry.Revision > c.Revision {
			return false
		}
	}
	return true
}

func (m *Memory) write(w kv.Write, before *kv.Entry, revision int64) {
	event := kv.Event{Entry: kv.Entry{Key: w.Key, Revision: revision}, Delete: w.Delete}
	if !w.Delete {
		event.Value = append([]byte(nil), w.Value...)
		event.Created = revision
		if before != nil {
			event.Created = before.Created
		}
	}
	if _, known := m.versions[w.Key]; !known {
		i := sort.SearchStrings(m.keys, w.Key)
		m.keys = append(m.keys, "")
		copy(m.keys[i+1:], m.keys[i:])
		m.keys[i] = w.Key
	}
	m.versions[w.Key] = append(m.versions[w.Key], event)
	m.history = append(m.history, event)
	m.revision = revision
}

// Watch implements kv.KV.
func (m *Memory) Watch(ctx context.Context, span kv.Span, from int64) <-chan kv.Changes {
	out := make(chan kv.Changes)
	m.mu.Lock()
	broken := m.broken
	m.mu.Unlock()
	go func() {
		defer close(out)
		for {
			changes, wait := m.since(ctx, span, from)
			if len(changes.Events) > 0 || changes.Err != nil {
				select {
				case out <- changes:
				case <-ctx.Done():
					return
				}
			}
			if changes.Err != nil {
				return
			}
			from = changes.Revision + 1
			select {
			case <-wait:
			case <-broken:
				select {
				case out <- kv.Changes{Err: errInterrupted}:
				case <-ctx.Done():
				}
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// since returns the changes of the span from a revision on, and a channel that is closed at the next change.
func (m *Memory) since(ctx context.Context, span kv.Span, from int64) (kv.Changes, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.answers(ctx); err != nil {
		return kv.Changes{Err: err}, nil
	}
	if from <= m.compacted {
		return kv.Changes{Err: kv.ErrCompacted}, nil
	}
	changes := kv.Changes{Revision: max(m.revision, from-1)}
	first := sort.Search(len(m.history), func(i int) bool { return m.history[i].Revision >= from })
	for _, event := range m.history[first:] {
		if span.Holds(event.Key) {
			changes.Events = append(changes.Events, event)
		}
	}
	return changes, m.changed
}

func (m *Memory) answers(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.closed {
		return errors.New("the store is closed")
	}
	return m.offline
}

// Compact deletes the history before the newest revision.
func (m *Memory) Compact() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compacted, m.history = m.revision, nil
	for i, key := range m.keys {
		versions := m.versions[key]
		m.versions[key] = versions[len(versions)-1:]
		if versions[len(versions)-1].Delete {
			delete(m.versions, key)
			m.keys[i] = ""
		}
	}
	kept := m.keys[:0]
	for _, key := range m.keys {
		if key != "" {
			kept = append(kept, key)
		}
	}
	m.keys = kept
}

// Interrupt ends every watch with an error, as a lost connection does.
func (m *Memory) Interrupt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.broken)
	m.broken = make(chan struct{})
}

// Offline makes every request fail with err, and ends every watch. Offline(nil) ends this.
func (m *Memory) Offline(err error) {
	m.mu.Lock()
	m.offline = err
	m.mu.Unlock()
	if err != nil {
		m.Interrupt()
	}
}

// Close implements kv.KV.
func (m *Memory) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.Interrupt()
	return nil
}

package datastore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/sirupsen/logrus"
)

// Batch is a piece of the history of the datastore. Updates are in order, and all changes of one revision are in one batch.
type Batch struct {
	Updates  []api.Update
	InSync   bool  // every object that existed when the watch began has been delivered; stays true from then on
	Stale    bool  // from a snapshot file, while the datastore does not answer
	Revision int64 // the consumer knows the datastore up to this revision

	// Invalid holds, by object, the reason why the newest stored value is not in force. It holds all such objects if one of them
	// has changed, and is nil otherwise.
	Invalid map[api.Key]string
}

// watched is the span of all keys that a watch delivers. A single span keeps all changes in order.
var watched = Span{From: ipam.Root, To: kv.Prefix(resourceRoot).To}

// listedSpans are the parts of watched that hold objects. The keys between them can be many.
var listedSpans = []Span{kv.Prefix(ipam.AffinityRoot), kv.Prefix(ipam.BlockRoot), kv.Prefix(resourceRoot)}

// Watch delivers every object and then every change, until the context ends, which closes the channel. The consumer sees one history
// without gaps or repetitions, also when the connection is lost or etcd compacts its history. The consumer owns the batches, but it
// must not change the objects, which may be shared. It must keep receiving until the channel is closed.
func (s *Store) Watch(ctx context.Context, log *logrus.Entry) <-chan Batch {
	w := &watcher{kv: s.kv, log: log, view: newView(), out: make(chan Batch)}
	go func() {
		defer close(w.out)
		w.run(ctx)
	}()
	return w.out
}

// watcher runs one watch. Only its goroutine uses it.
type watcher struct {
	kv   KV
	log  *logrus.Entry
	view *view
	out  chan Batch

	inSync   bool
	complete bool         // the last listing was read to its end
	replaced bool         // the store is not the one that was listed; set by check, reset by list
	applied  int64        // the view has all changes up to this revision
	revision int64        // the consumer knows all changes up to this revision
	store    uint64       // identity of the store that revision belongs to
	pending  []api.Update // updates that the view has made and the consumer has not received
	newest   Event        // the newest known change, without its value
	witness  Event        // newest as of the last check that found the same store
	reported string       // the error that was logged last; reset when the store answers
}

// The limit of the wait before the next listing: the first time, and at most. It doubles each time. A wait is a random time between
// half of the limit and the limit, so that many nodes do not ask at the same moment.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// checkInterval is the time between two checks that the store still answers and is still the same one.
const checkInterval = 10 * time.Second

// errReplaced says that another store, or an older state of the same store, answers now.
var errReplaced = errors.New("the datastore was replaced or restored")

func (w *watcher) run(ctx context.Context) {
	limit := firstRetry
	var err error
	for ctx.Err() == nil {
		began := time.Now()
		if err = w.prepare(ctx, err); err == nil {
			err = w.follow(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastRetry {
			limit = firstRetry
		}
		wait := limit/2 + rand.N(limit/2)
		limit = min(2*limit, lastRetry)
		w.report(err, wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// prepare brings the consumer to a state from which follow can continue. A lost connection or an election needs only a check. It lists
// everything again only if etcd has compacted the history, or the store is another one.
func (w *watcher) prepare(ctx context.Context, last error) error {
	if w.complete && !errors.Is(last, ErrCompacted) && !errors.Is(last, errReplaced) {
		return w.check(ctx)
	}
	return w.list(ctx)
}

func (w *watcher) report(err error, wait time.Duration) {
	entry := w.log.WithError(err).WithField("retry", wait.Round(time.Millisecond))
	if err.Error() == w.reported {
		entry.Debug("the same error again")
		return
	}
	w.reported = err.Error()
	switch {
	case errors.Is(err, ErrCompacted):
		entry.Info("the datastore compacted its history: reading all objects again")
	case errors.Is(err, errReplaced):
		entry.Warn("the datastore is another one or older than before: comparing all objects")
	case w.inSync:
		entry.Warn("lost the datastore: the policy in force stays until it answers again")
	default:
		entry.Warn("the datastore does not answer yet")
	}
}

// list reads everything at one revision and delivers the difference to the state of the consumer. The first time it delivers each
// page. Later it delivers one batch, because changes in the difference may belong together.
func (w *watcher) list(ctx context.Context) error {
	first, err := w.kv.Range(ctx, kv.Single(watched.From), 0, 1)
	if err != nil {
		return err
	}
	w.complete = false
	w.view.begin(w.replaced || w.differs(first))
	w.replaced, w.newest = false, Event{}
	for _, span := range listedSpans {
		_, err := kv.Each(ctx, w.kv, span, first.Revision, func(page Page) error {
			for _, entry := range page.Entries {
				w.pending = append(w.pending, w.compare(ctx, entry)...)
				w.remember(Event{Entry: entry})
			}
			if w.inSync {
				return nil
			}
			return w.deliver(ctx)
		})
		if err != nil {
			return err
		}
	}
	w.pending = append(w.pending, w.view.sweep()...)
	w.applied, w.revision, w.store, w.inSync, w.complete = first.Revision, first.Revision, first.Store, true, true
	w.witness, w.reported = w.newest, ""
	return w.deliver(ctx)
}

// differs says whether an answer comes from another store than the consumer knows, or from an older state of it.
func (w *watcher) differs(page Page) bool {
	return w.revision > 0 && (page.Store != w.store || page.Revision < w.revision)
}

func (w *watcher) remember(change Event) {
	if change.Revision > w.newest.Revision {
		change.Value = nil
		w.newest = change
	}
}

// compare handles a listed entry. If its value is invalid, it looks for the last valid version in the history that etcd still has.
// That version is in force on the nodes that have seen it, so it must be on a node that starts later.
func (w *watcher) compare(ctx context.Context, entry Entry) []api.Update {
	updates, changed := w.view.listed(entry)
	if !changed || !w.view.faulty(entry.Key) {
		return updates
	}
	older := entry
	for range lookBack {
		page, err := w.kv.Range(ctx, kv.Single(entry.Key), older.Revision-1, 1)
		if err != nil || len(page.Entries) == 0 || page.Entries[0].Created != entry.Created {
			return updates
		}
		older = page.Entries[0]
		if restored, ok := w.view.restore(older, entry); ok {
			return restored
		}
	}
	return updates
}

// lookBack is the largest number of older versions of an invalid object that are read.
const lookBack = 20

// follow delivers changes until the watch ends.
func (w *watcher) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := w.kv.Watch(ctx, watched, w.revision+1)
	check := time.NewTicker(checkInterval)
	defer check.Stop()
	for {
		select {
		case c, ok := <-changes:
			if !ok {
				return errors.New("the watch ended")
			}
			if c.Err != nil {
				return c.Err
			}
			if err := w.handle(ctx, c); err != nil {
				return err
			}
		case <-check.C:
			// Without an answer the watch may still work. If it does not, it ends by itself.
			if err := w.check(ctx); errors.Is(err, errReplaced) {
				return err
			} else if err != nil {
				w.report(err, checkInterval)
			}
		}
	}
}

func (w *watcher) handle(ctx context.Context, c Changes) error {
	for _, event := range c.Events {
		if event.Revision <= w.applied {
			continue // a new connection may repeat known changes
		}
		w.pending = append(w.pending, w.view.event(event)...)
		w.remember(event)
	}
	if len(c.Events) > 0 {
		w.applied = max(w.applied, c.Events[len(c.Events)-1].Revision)
	}
	w.revision = max(w.revision, c.Revision)
	return w.deliver(ctx)
}

// check returns errReplaced if the store is not the one that was listed. Without it, a watch of a store that was restored from a
// backup would wait for its next revision, which then has other contents than the consumer expects.
func (w *watcher) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkInterval)
	defer cancel()
	key := cmp.Or(w.witness.Key, watched.From)
	page, err := w.kv.Range(ctx, kv.Single(key), 0, 1)
	if err != nil {
		return err
	}
	same := !w.differs(page)
	if same && w.witness.Key != "" && !w.witnessed(page) {
		// The key has changed since. Read it at the known revision; if that is compacted, assume the same store.
		page, err = w.kv.Range(ctx, kv.Single(key), w.witness.Revision, 1)
		if err != nil && !errors.Is(err, ErrCompacted) {
			return err
		}
		same = err != nil || w.witnessed(page)
	}
	if !same {
		w.replaced = true
		return fmt.Errorf("%w: revision %d is not what it was", errReplaced, w.revision)
	}
	w.witness, w.reported = w.newest, ""
	return nil
}

// witnessed says whether the key of the witness is as that change left it.
func (w *watcher) witnessed(page Page) bool {
	if len(page.Entries) == 0 {
		return w.witness.Delete
	}
	return !w.witness.Delete && page.Entries[0].Revision == w.witness.Revision
}

// deliver sends the pending updates to the consumer, and waits until it has received them.
func (w *watcher) deliver(ctx context.Context) error {
	batch := Batch{Updates: w.pending, InSync: w.inSync, Revision: w.revision}
	if w.view.changed {
		batch.Invalid = maps.Clone(w.view.invalid)
		w.view.changed = false
	}
	w.pending = nil
	select {
	case w.out <- batch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

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
	InSync   bool  // every object that existed has been delivered; stays true from then on
	Stale    bool  // from a snapshot, while the datastore does not answer
	Revision int64 // the datastore is known up to this revision

	// Invalid says, by object, why the newest stored value is not in force. It is the whole picture, given when it has
	// changed and nil otherwise.
	Invalid map[api.Key]string
}

// watched is where everything is that a watch delivers; a watch of one span keeps the order of changes in all of it.
var watched = Span{From: ipam.Root, To: kv.Prefix(resourceRoot).To}

// listedSpans are the parts of watched that hold objects; what is between them can be large.
var listedSpans = []Span{kv.Prefix(ipam.AffinityRoot), kv.Prefix(ipam.BlockRoot), kv.Prefix(resourceRoot)}

// Watch delivers every object and then every change, until the context ends, which closes the channel. Whatever happens to
// the connection or to the history that the datastore keeps, the consumer sees one history without gaps or repetitions.
// The batches belong to it, except that objects may be shared and must not be changed.
func (s *Store) Watch(ctx context.Context, log *logrus.Entry) <-chan Batch {
	w := &watcher{kv: s.kv, log: log, view: newView(), out: make(chan Batch)}
	go func() {
		defer close(w.out)
		w.run(ctx)
	}()
	return w.out
}

type watcher struct {
	kv   KV
	log  *logrus.Entry
	view *view
	out  chan Batch

	inSync   bool
	whole    bool         // the last listing was read to its end
	replaced bool         // the store is not the one that was listed
	applied  int64        // everything up to here has been turned into updates
	revision int64        // the consumer knows everything up to here
	store    uint64       // the store that this is a revision of
	pending  []api.Update // of a listing that broke off: the view knows them, the consumer does not
	newest   Event        // the last change that is known, without its value
	witness  Event        // the same when it was last made sure that the store is still the same
	reported string       // what was last logged
}

// How long to wait before listing again: the first time and at most. Each wait is drawn at random up to the limit, so that
// many nodes do not ask at the same moment.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// checkInterval is how often the store is asked whether it is still there and still the same one.
const checkInterval = 10 * time.Second

// errReplaced says that another store, or an older state of the same one, has taken the place of the one that was listed.
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

// prepare makes following possible. The state of the consumer leads on to later changes, unless the history is gone or is
// that of another store: a lost connection, or an election, does not make every node read everything.
func (w *watcher) prepare(ctx context.Context, last error) error {
	if w.whole && !errors.Is(last, ErrCompacted) && !errors.Is(last, errReplaced) {
		return w.check(ctx)
	}
	return w.list(ctx)
}

func (w *watcher) report(err error, wait time.Duration) {
	entry := w.log.WithError(err).WithField("retry", wait.Round(time.Millisecond))
	if err.Error() == w.reported {
		entry.Debug("as before")
		return
	}
	w.reported = err.Error()
	switch {
	case errors.Is(err, ErrCompacted):
		entry.Info("the datastore compacted its history: reading all objects again")
	case errors.Is(err, errReplaced):
		entry.Warn("comparing all objects")
	case w.inSync:
		entry.Warn("lost the datastore: everything stays as it is until it answers again")
	default:
		entry.Warn("the datastore does not answer yet")
	}
}

// list reads everything at one revision and delivers the difference to what the consumer knows: page by page the first
// time, and as one batch later, because a difference may hold changes that belong together.
func (w *watcher) list(ctx context.Context) error {
	first, err := w.kv.Range(ctx, kv.Single(watched.From), 0, 1)
	if err != nil {
		return err
	}
	w.whole = false
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
	w.applied, w.revision, w.store, w.inSync, w.whole = first.Revision, first.Revision, first.Store, true, true
	w.witness, w.reported = w.newest, ""
	return w.deliver(ctx)
}

// differs says whether an answer cannot be from the store that the consumer knows.
func (w *watcher) differs(page Page) bool {
	return w.revision > 0 && (page.Store != w.store || page.Revision < w.revision)
}

func (w *watcher) remember(change Event) {
	if change.Revision > w.newest.Revision {
		change.Value = nil
		w.newest = change
	}
}

// compare takes a listed entry. Where its value is invalid, the last valid version is looked for in the history that the
// datastore still has: it was in force on every node that saw it, and so it is on one that comes later.
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

// lookBack is how many versions of an invalid object are looked at.
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
			if err := w.take(ctx, c); err != nil {
				return err
			}
		case <-check.C:
			// Without an answer the watch may still work; when it does not, it ends.
			if err := w.check(ctx); errors.Is(err, errReplaced) {
				return err
			} else if err != nil {
				w.report(err, checkInterval)
			}
		}
	}
}

func (w *watcher) take(ctx context.Context, c Changes) error {
	for _, event := range c.Events {
		if event.Revision <= w.applied {
			continue // a connection that was made anew may repeat what is known
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

// check notices a store that is not the one that was listed: a watch of a store that was restored from a backup would wait
// for revisions that come much later, with different contents, or take them for what follows.
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
		// It changed since. Did it have the revision that is known? A history that is gone tells nothing.
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

// witnessed says whether the key of the last change that is known is as that change left it.
func (w *watcher) witnessed(page Page) bool {
	if len(page.Entries) == 0 {
		return w.witness.Delete
	}
	return !w.witness.Delete && page.Entries[0].Revision == w.witness.Revision
}

// deliver hands what is pending to the consumer and waits until it is taken.
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

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
)

// job is the action of a verb on each object of its input.
type job struct {
	verb verb
	// act does the action to one object and says what it did. It changes only the store and the object's metadata, because
	// it is called again if the transaction that it was part of is not committed.
	act func(ctx context.Context, st store, o api.Object) (string, error)
	// tell returns the line about an object whose change is committed; empty for no line. nil is no line for any object.
	tell   func(o api.Object, done string) string
	to     io.Writer // for the lines of tell; nil is standard error
	skips  string    // describes the objects that a flag leaves alone, which do not count as handled; empty without such a flag
	asks   bool      // it deletes: list what depends on the objects, and ask at a terminal
	writes bool      // it stores objects: initialise the datastore, and warn of unusual values
}

// result is the result of the job on one object.
type result struct {
	done     string
	warnings []string
	err      error
}

const (
	// By default etcd takes 128 operations and 1.5 MiB in a transaction. These limits leave room for the conditions of each object.
	batchObjects = 96
	batchBytes   = 512 << 10
)

// worker does a job to objects. It commits many objects in one transaction, with the same outcome as one after the other.
type worker struct {
	*session
	st       store
	at       scope
	job      job
	dry      bool
	prune    pruning
	progress *progress
	calico   *calicoNodes // nil until an object needs it

	written []api.Object // the objects of the input that are stored now, also those that were stored before

	out    outcome
	pruned outcome
	hint   string // what to do about the errors of out
}

// begin opens the datastore for a job. The caller calls the returned function to close it.
func (s *session) begin(ctx context.Context, j job, f writing) (*worker, func(), error) {
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	if f.dry() {
		j = rehearsed(j)
	}
	if f.dry() && !f.atomic {
		st = st.DryRun()
	}
	return &worker{session: s, st: st, at: f.at, job: j, dry: f.dry(), prune: f.prune}, closeStore, nil
}

// initialize creates the objects that every datastore has, if the job stores objects.
func (w *worker) initialize(ctx context.Context, st store) {
	if !w.job.writes {
		return
	}
	if err := st.EnsureInitialized(ctx); err != nil {
		// A user may be allowed to write policies and nothing else.
		w.log.WithError(err).Info("the datastore is not initialised by this command")
	}
}

// run works on the objects in order, and goes on after a failure. It stops if the datastore does not answer any more, because
// each further request would wait as long as this one. When the context ends, it finishes the object or batch it has begun.
func (w *worker) run(ctx context.Context, objects []api.Object) {
	w.out, w.progress = newOutcome(objects), w.progressOf(len(objects))
	goOn := func() bool { return len(objects) > 0 && ctx.Err() == nil && !w.out.lost() }
	for goOn() {
		done, alone := w.batch(ctx, objects[:min(w.batchObjects, len(objects))])
		objects = objects[done:]
		for ; alone > 0 && goOn(); alone-- {
			w.count(objects[0], w.one(context.WithoutCancel(ctx), w.st, objects[0]))
			objects = objects[1:]
		}
	}
	w.progress.clear()
	w.out.interrupted = len(objects) > 0
}

// batch works on objects in one transaction. It says how many of the first objects are done, and how many of the next ones
// have to be done one by one.
func (w *worker) batch(ctx context.Context, objects []api.Object) (done, alone int) {
	if len(objects) == 1 {
		return 0, 1
	}
	given := metadataOf(objects)
	tx := w.st.Begin()
	if err := w.readAhead(ctx, tx, objects); err != nil {
		return w.giveUp(ctx, objects, err)
	}
	var results []result
	for _, o := range objects {
		r := w.one(ctx, tx, o)
		if ctx.Err() != nil {
			return 0, 0
		}
		if errors.As(r.err, new(datastore.SeveralStepsError)) {
			break
		}
		results = append(results, r)
		if tx.Bytes() > batchBytes {
			break
		}
	}
	restore(objects[len(results):], given[len(results):])
	if len(results) == 0 {
		return 0, 1
	}
	err := tx.Commit(context.WithoutCancel(ctx))
	if datastore.Refused(err) {
		restore(objects, given)
		return 0, len(results)
	}
	for i, r := range results {
		if err != nil && r.err == nil {
			r.err = w.unknown(objects[i], err)
		}
		w.count(objects[i], r)
	}
	return len(results), 0
}

// readAhead reads the stored objects that the job needs, in few requests.
func (w *worker) readAhead(ctx context.Context, tx *datastore.Transaction, objects []api.Object) error {
	for _, o := range objects {
		_ = w.at.resolve(o) // one reports the error
		nameWorkloadEndpoint(o)
	}
	return tx.Prefetch(ctx, objects)
}

// giveUp ends a batch for which nothing could be read.
func (w *worker) giveUp(ctx context.Context, objects []api.Object, err error) (done, alone int) {
	switch {
	case ctx.Err() != nil:
		return 0, 0
	case datastore.Refused(err):
		return 0, len(objects) // the user may be allowed to write some of them
	}
	for _, o := range objects {
		w.count(o, result{err: w.unknown(o, err)})
	}
	return len(objects), 0
}

// unknown returns the error for an object that may or may not have been written.
func (w *worker) unknown(o api.Object, err error) error {
	return fmt.Errorf("%s %v: %w", w.job.verb.name, api.KeyOf(o), err)
}

// metadataOf copies the metadata of objects, because a job changes it.
func metadataOf(objects []api.Object) []api.Metadata {
	given := make([]api.Metadata, len(objects))
	for i, o := range objects {
		given[i] = *o.Meta()
	}
	return given
}

func restore(objects []api.Object, given []api.Metadata) {
	for i, o := range objects {
		*o.Meta() = given[i]
	}
}

// one does the job to an object in a store.
func (w *worker) one(ctx context.Context, st store, o api.Object) (r result) {
	if r.err = w.at.resolve(o); r.err != nil {
		return r
	}
	if r.err = notWritable(w.job.verb.name, o); r.err != nil {
		return r
	}
	nameWorkloadEndpoint(o)
	if w.job.writes {
		if why := w.lockout(ctx, st, o); why != "" {
			w.print(w.stderr, warningLine(o, why))
		}
	}
	if r.done, r.err = w.job.act(ctx, st, o); r.err == nil && w.job.writes {
		r.warnings = append(api.OwnWarnings(o), w.calicoWarnings(ctx, o)...)
	}
	return r
}

// count adds the result of an object to the outcome, and prints the lines about it.
func (w *worker) count(o api.Object, r result) {
	defer w.progress.step(o.Type().Kind)
	if r.err != nil {
		w.out.errs = append(w.out.errs, r.err)
		return
	}
	if w.job.skips != "" && r.done == unchanged {
		w.out.skipped++
	} else {
		w.out.handled++
		if w.job.writes {
			w.written = append(w.written, o)
		}
	}
	if w.job.tell != nil {
		w.print(w.job.to, w.job.tell(o, r.done))
	}
	for _, text := range r.warnings {
		w.print(w.stderr, warningLine(o, text))
	}
}

// print erases the progress and writes a text; to standard error if to is nil.
func (w *worker) print(to io.Writer, text string) {
	if text == "" {
		return
	}
	if to == nil {
		to = w.stderr
	}
	w.progress.clear()
	fmt.Fprint(to, text)
}

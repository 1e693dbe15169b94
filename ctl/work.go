package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
)

// job is what a verb does to each object of its input.
type job struct {
	verb verb
	// act does it to one object and says what it did. It changes nothing but the store and the object's metadata, because
	// it is done again when the transaction that it was part of did not take place.
	act    func(ctx context.Context, st store, o api.Object) (string, error)
	tell   func(o api.Object, done string) string // what is said of an object once it is certain; nothing if it is empty
	to     io.Writer                              // where that is said; standard error if it is nil
	skips  string                                 // what an object is that is left alone on demand; it does not count then
	asks   bool                                   // it deletes: what depends on the objects is told, and asked for at a terminal
	writes bool                                   // objects: the datastore must be initialised, and what is unusual in them is told
}

// fate is how the job fared on one object.
type fate struct {
	done     string
	warnings []string
	err      error
}

const (
	// An etcd that is as it comes takes 128 operations and 1.5 MiB in a transaction; each object has conditions too.
	batchObjects = 96
	batchBytes   = 512 << 10
)

// worker does a job to objects. It commits many at a time, with the outcome of doing them one after the other.
type worker struct {
	*session
	st       store
	at       place
	job      job
	dry      bool
	prune    pruning
	progress *progress
	calico   *calicoNodes // nil: nobody needed to know yet

	written []api.Object // or unchanged: what is there now as it was given

	out    outcome
	pruned outcome
	hint   string // what to do about the errors of the outcome
}

// begin opens the datastore for a job; the function closes it.
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

// initialize makes sure that a store has what every datastore begins with, if the job is one that writes.
func (w *worker) initialize(ctx context.Context, st store) {
	if !w.job.writes {
		return
	}
	if err := st.EnsureInitialized(ctx); err != nil {
		// A user may be allowed to write policies and nothing else.
		w.log.WithError(err).Info("the datastore is not initialised by this command")
	}
}

// run works on the objects in order, and goes on after a failure, unless that is the loss of the datastore: each further
// request would wait as long as this one. When the context ends, what was begun is finished.
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

// batch works on the first of the objects in one transaction. It says how many are done, and how many of those that follow
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
	var fates []fate
	for _, o := range objects {
		r := w.one(ctx, tx, o)
		if ctx.Err() != nil {
			return 0, 0
		}
		if errors.As(r.err, new(datastore.SeveralStepsError)) {
			break
		}
		fates = append(fates, r)
		if tx.Bytes() > batchBytes {
			break
		}
	}
	restore(objects[len(fates):], given[len(fates):])
	if len(fates) == 0 {
		return 0, 1
	}
	err := tx.Commit(context.WithoutCancel(ctx))
	if datastore.Refused(err) {
		restore(objects, given)
		return 0, len(fates)
	}
	for i, r := range fates {
		if err != nil && r.err == nil {
			r.err = w.unknown(objects[i], err)
		}
		w.count(objects[i], r)
	}
	return len(fates), 0
}

// readAhead reads all that the job will ask for.
func (w *worker) readAhead(ctx context.Context, tx *datastore.Transaction, objects []api.Object) error {
	for _, o := range objects {
		_ = w.at.settle(o) // what is wrong with it is said when it is its turn
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
		return 0, len(objects) // some of them may be allowed
	}
	for _, o := range objects {
		w.count(o, fate{err: w.unknown(o, err)})
	}
	return len(objects), 0
}

// unknown is the error of an object of which it is not known whether anything was done to it.
func (w *worker) unknown(o api.Object, err error) error {
	return fmt.Errorf("%s %v: %w", w.job.verb.name, api.KeyOf(o), err)
}

// metadataOf is the metadata of objects, which a job changes.
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
func (w *worker) one(ctx context.Context, st store, o api.Object) (r fate) {
	if r.err = w.at.settle(o); r.err != nil {
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

// count takes the result of an object into the outcome and says what there is to be said.
func (w *worker) count(o api.Object, r fate) {
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

// print writes a text where the progress was.
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

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
)

const atomicHelp = `--atomic writes all objects in one transaction: all are written, or none. The objects see each other: a policy may be in a
tier of the same input. If somebody else changes one of the objects meanwhile, the transaction is tried again; it fails
instead if the file names metadata.resourceVersion. By default etcd accepts at most 128 writes, 128 conditions and 1.5 MiB in
a transaction; a larger input is refused. With --dry-run=server etcd is asked whether it would accept the transaction.`

// The effect of --atomic on an input that failed, and what to do next.
const (
	hintNothing = "nothing was written: --atomic writes all objects or none"
	hintSplit   = "nothing was written: give fewer or smaller objects at a time, leave out --atomic, or raise the limits of every etcd member (--max-txn-ops, --max-request-bytes)"
	hintUnknown = "etcd did not confirm the transaction, so all objects may be written, or none: look with margayctl diff"
)

// atomically does the job to all objects, and prunes, in one transaction: everything is written, or nothing. After a conflict
// with another writer it tries again, unless the input names the version that it was made from.
func (w *worker) atomically(ctx context.Context, objects []api.Object) {
	given := metadataOf(objects)
	pruner := w.pruner()
	var results, pruneResults []result
	var toPrune []api.Object
	sent, asked := false, false
	err := w.retry(ctx, false, func() (err error) {
		restore(objects, given)
		tx := w.st.Begin()
		if results, err = w.stage(ctx, tx, objects); err != nil || failed(results) {
			return err
		}
		if w.prune.on {
			if toPrune, err = w.toPrune(ctx, tx, objects); err != nil {
				return err
			}
			if !asked {
				asked = true
				if err := w.confirmLoss(ctx, toPrune); err != nil {
					return fmt.Errorf("prune: %w", err)
				}
			}
			if pruneResults, err = pruner.stage(ctx, tx, toPrune); err != nil || failed(pruneResults) {
				return err
			}
		}
		if w.dry {
			return tx.Check(ctx)
		}
		sent = true
		return tx.Commit(context.WithoutCancel(ctx))
	})
	w.out, pruner.out = newOutcome(objects), newOutcome(toPrune)
	if err != nil || failed(results) || failed(pruneResults) {
		w.fail(ctx, append(results, pruneResults...), err)
		if sent && err != nil && !datastore.Refused(err) {
			w.hint = hintUnknown
		}
		return
	}
	for i, r := range results {
		w.count(objects[i], r)
	}
	for i, r := range pruneResults {
		pruner.count(toPrune[i], r)
	}
	w.pruned = pruner.out
}

// stage does the job to all objects inside of a transaction, and commits nothing.
func (w *worker) stage(ctx context.Context, tx *datastore.Transaction, objects []api.Object) ([]result, error) {
	if err := w.readAhead(ctx, tx, objects); err != nil {
		return nil, err
	}
	if w.dry {
		w.initialize(ctx, tx)
	}
	progress := w.progressOf(len(objects))
	defer progress.clear()
	var results []result
	for _, o := range objects {
		results = append(results, w.one(ctx, tx, o))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		progress.step(o.Type().Kind)
	}
	return results, nil
}

// fail records the outcome of a transaction that was not committed: err, an interruption, or else the errors of single objects.
func (w *worker) fail(ctx context.Context, results []result, err error) {
	w.hint = hintNothing
	switch {
	case err == nil:
		for _, r := range results {
			if r.err != nil {
				w.out.errs = append(w.out.errs, r.err)
			}
		}
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		w.out.interrupted = true
	default:
		w.out.errs = []error{err}
		if errors.As(err, new(datastore.TooLargeError)) {
			w.hint = hintSplit
		}
	}
}

func failed(results []result) bool {
	for _, r := range results {
		if r.err != nil {
			return true
		}
	}
	return false
}

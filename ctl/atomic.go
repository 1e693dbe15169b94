package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
)

const atomicHelp = `--atomic makes one transaction of all objects: all are written, or none. They see each other, as a policy its tier; when
someone else changes one of them meanwhile, it is done again, or fails if the file names metadata.resourceVersion. etcd takes
128 writes under 128 conditions and 1.5 MiB in a transaction, unless its members were started with more: an input that is
larger is refused. With --dry-run=server etcd is asked whether it would take it.`

// The effect of --atomic on an input that failed, and what to do.
const (
	hintNothing = "nothing was written: with --atomic it is all or nothing"
	hintSplit   = "nothing was written: give fewer or smaller objects at a time, leave out --atomic, or raise the limits of every etcd member"
	hintUnknown = "it is not known whether all of it was written, or nothing: look with margayctl diff"
)

// atomically does the job to all objects, and prunes, in one transaction, or does nothing. It is tried again when someone
// else changes one of them meanwhile, unless the input names the version that it was made from.
func (w *worker) atomically(ctx context.Context, objects []api.Object) {
	given := metadataOf(objects)
	pruner := w.pruner()
	var fates, prunedFates []fate
	var victims []api.Object
	sent, asked := false, false
	err := w.retry(ctx, false, func() (err error) {
		restore(objects, given)
		tx := w.st.Begin()
		if fates, err = w.stage(ctx, tx, objects); err != nil || failed(fates) {
			return err
		}
		if w.prune.on {
			if victims, err = w.victims(ctx, tx, objects); err != nil {
				return err
			}
			if !asked {
				asked = true
				if err := w.confirmLoss(ctx, victims); err != nil {
					return fmt.Errorf("prune: %w", err)
				}
			}
			if prunedFates, err = pruner.stage(ctx, tx, victims); err != nil || failed(prunedFates) {
				return err
			}
		}
		if w.dry {
			return tx.Check(ctx)
		}
		sent = true
		return tx.Commit(context.WithoutCancel(ctx))
	})
	w.out, pruner.out = newOutcome(objects), newOutcome(victims)
	if err != nil || failed(fates) || failed(prunedFates) {
		w.fail(ctx, append(fates, prunedFates...), err)
		if sent && err != nil && !datastore.Refused(err) {
			w.hint = hintUnknown
		}
		return
	}
	for i, r := range fates {
		w.count(objects[i], r)
	}
	for i, r := range prunedFates {
		pruner.count(victims[i], r)
	}
	w.pruned = pruner.out
}

// stage does the job to all objects in a transaction.
func (w *worker) stage(ctx context.Context, tx *datastore.Transaction, objects []api.Object) ([]fate, error) {
	if err := w.readAhead(ctx, tx, objects); err != nil {
		return nil, err
	}
	if w.dry {
		w.initialize(ctx, tx)
	}
	progress := w.progressOf(len(objects))
	defer progress.clear()
	var fates []fate
	for _, o := range objects {
		fates = append(fates, w.one(ctx, tx, o))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		progress.step(o.Type().Kind)
	}
	return fates, nil
}

// fail is the outcome when nothing was written: because of some fates, or because the transaction did not take place.
func (w *worker) fail(ctx context.Context, fates []fate, err error) {
	w.hint = hintNothing
	switch {
	case err == nil:
		for _, r := range fates {
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

func failed(fates []fate) bool {
	for _, r := range fates {
		if r.err != nil {
			return true
		}
	}
	return false
}

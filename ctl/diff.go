package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/print"
)

// Exit codes of diff, the same as those of diff(1).
const (
	exitDifferent = 1
	exitTrouble   = 2
)

// errDifferent sets the exit code when something would change. It has no text, because the difference is on standard output.
var errDifferent = exitCode{errors.New(""), exitDifferent}

func newDiff(s *session) *cobra.Command {
	f := writing{dryRun: "server"}
	cmd := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change",
		Long: `Show what apply would change: for each object, a unified diff between the stored object and the one that apply would store.

Defaults are filled in before the comparison; uid, creationTimestamp and resourceVersion are left out. Nothing is written. The
exit code is 0 if nothing would change, 1 if something would, and 2 after an error. A script that applies only what differs
must test for 1, because "diff || apply" also applies after an error. With --prune the diff includes the objects that
apply --prune would delete.`,
		Example: `  margayctl diff -f docs/examples/
  margayctl diff -f policies/ -R --prune -l "team == 'web'"
  margayctl diff -f policies/ -R; test $? -eq 1 && margayctl apply -f policies/ -R`,
		Args:        arguments.None,
		Annotations: map[string]string{exitAnnotation: strconv.Itoa(exitTrouble)},
		RunE: func(cmd *cobra.Command, _ []string) error {
			different, err := s.diff(cmd.Context(), f)
			if err == nil && different {
				return errDifferent
			}
			return err
		},
	}
	f.in.addFlags(cmd)
	addNamespaceFlag(cmd, &f.at)
	f.prune.addFlags(s, cmd)
	return cmd
}

// diff prints what apply would change, object by object, and goes on after an error.
func (s *session) diff(ctx context.Context, f writing) (different bool, err error) {
	if err := f.check(s); err != nil {
		return false, err
	}
	objects, err := s.load(f.in)
	if err != nil {
		return false, err
	}
	if err := f.prune.fits(s, objects); err != nil {
		return false, err
	}
	if len(objects) == 0 {
		fmt.Fprintln(s.stdout, "No resources specified")
		return false, nil
	}
	baseFirst(objects)
	w, closeStore, err := s.begin(ctx, job{verb: verb{"diff", "compared"}, act: s.difference, writes: true}, f)
	if err != nil {
		return false, err
	}
	defer closeStore()
	w.job.to, w.job.tell = s.stdout, func(_ api.Object, text string) string {
		different = different || text != ""
		return text
	}
	w.initialize(ctx, w.st)
	w.run(ctx, objects)
	s.tellTraps(ctx, w.st, w.written)
	if err := diffError(w.out); err != nil || !f.prune.on {
		return different, err
	}
	pruned, err := w.diffPruned(ctx, objects)
	return different || pruned, err
}

// diffPruned prints what apply would prune.
func (w *worker) diffPruned(ctx context.Context, objects []api.Object) (different bool, err error) {
	toPrune, err := w.toPrune(ctx, w.st, objects)
	if err != nil {
		return false, err
	}
	for _, o := range toPrune {
		before, err := comparable(ctx, w.st, o)
		if err != nil {
			return false, err
		}
		fmt.Fprint(w.stdout, unified(api.KeyOf(o), before, "pruned", nil))
	}
	return len(toPrune) > 0, nil
}

// difference applies an object to st, which is a dry run, and returns the unified diff of the stored object before and after.
func (s *session) difference(ctx context.Context, st store, o api.Object) (string, error) {
	before, err := comparable(ctx, st, o)
	if err != nil {
		return "", err
	}
	if _, err := s.apply(ctx, st, o); err != nil {
		return "", err
	}
	after, err := comparable(ctx, st, o)
	if err != nil {
		return "", err
	}
	return unified(api.KeyOf(o), before, "applied", after), nil
}

// unified returns the unified diff between two texts of one object; empty if they are equal.
func unified(key api.Key, before []byte, done string, after []byte) string {
	text := diff.Diff("stored "+key.String(), before, done+" "+key.String(), after)
	_, text, _ = bytes.Cut(text, []byte("\n")) // drop the first line, a command line that was never run
	return string(text)
}

func diffError(out outcome) error {
	switch {
	case out.interrupted:
		return interruption(out)
	case len(out.errs) == 0:
		return nil
	case len(out.errs) == 1:
		return out.errs[0]
	}
	return fmt.Errorf("hit error:%s", listed(out.errs))
}

// comparable returns a stored object as YAML, without the fields that differ between equal objects, such as uid and
// resourceVersion. It is empty if the object does not exist.
func comparable(ctx context.Context, st store, o api.Object) ([]byte, error) {
	key := api.KeyOf(o)
	stored, err := st.Get(ctx, key)
	if isNotFound(err) {
		return nil, nil
	}
	if unreadable, ok := asUnreadable(err); ok {
		return []byte("# " + unreadable.Error() + "\n"), nil
	}
	if err != nil {
		return nil, err
	}
	r := print.Result{Kind: key.Kind, Objects: []api.Object{stored}}
	r.Strip()
	stored.Meta().Namespace = key.Namespace
	return api.MarshalYAML(stored)
}

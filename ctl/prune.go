package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/datastore"
)

const pruneHelp = `--prune also deletes stored objects that are not in the input. It deletes only objects of the kinds and namespaces of the
input, and only those whose labels match -l; with --all, those with any labels. Nothing is pruned if an object of the input was
not accepted. Nothing is written or pruned if the input is empty, or if -l matches none of its objects. These are never pruned:
Nodes, ClusterInformation, the built-in tiers and profile, and the configurations named default.`

var errNothingToPruneBy = errors.New("--prune with an empty input would delete everything: nothing was changed")

// pruning says which objects are deleted because the input does not have them.
type pruning struct {
	on, all bool
}

func (p *pruning) addFlags(s *session, cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.on, "prune", false, "delete objects of the input's kinds and namespaces that match -l and are not in the input")
	cmd.Flags().BoolVar(&p.all, "all", false, "with --prune: delete objects with any labels")
	cmd.Flags().StringVar(&s.selector, "selector", "", "with --prune: only objects whose labels match, for example team == 'web'; -l is the same")
}

// check refuses flags that do not say exactly which objects may be pruned.
func (p pruning) check(s *session) error {
	switch {
	case !p.on && (p.all || s.selector != ""):
		return errors.New("-l and --all limit what --prune deletes: give --prune too")
	case p.on && p.all == (s.selector != ""):
		return errors.New("--prune needs a limit: give -l SELECTOR, for example -l \"team == 'web'\", or --all")
	}
	_, err := s.chooser()
	return err
}

// fits refuses an input that is empty, or of which -l matches no object: pruning would then delete only objects that were
// never part of such an input.
func (p pruning) fits(s *session, objects []api.Object) error {
	if !p.on {
		return nil
	}
	if len(objects) == 0 {
		return errNothingToPruneBy
	}
	choice, err := s.chooser()
	if err != nil {
		return err
	}
	mayGo := slices.DeleteFunc(slices.Clone(objects), func(o api.Object) bool { return !prunable(o) })
	if len(mayGo) > 0 && !slices.ContainsFunc(mayGo, choice.takes) {
		return hints.With(fmt.Errorf("-l %q matches no object of the input, so only objects that are not in the input would be pruned: nothing was changed", s.selector),
			"give the objects of the input a label that other objects do not have, and select that label")
	}
	return nil
}

// hint returns the line that follows an error.
func (p pruning) hint() string {
	if p.on {
		return "nothing was pruned"
	}
	return ""
}

// toPrune returns the stored objects to prune, in an order in which they can be deleted.
func (w *worker) toPrune(ctx context.Context, st store, objects []api.Object) ([]api.Object, error) {
	choice, err := w.chooser()
	if err != nil {
		return nil, err
	}
	given := map[api.Key]bool{}
	scopes := map[api.Key]bool{} // kinds and namespaces, as keys without names
	for _, o := range objects {
		given[api.KeyOf(o)] = true
		scopes[api.Key{Kind: o.Type().Kind, Namespace: o.Meta().Namespace}] = true
	}
	var toPrune []api.Object
	for scope := range scopes {
		stored, _, err := st.List(ctx, scope.Kind, scope.Namespace)
		if err != nil {
			return nil, err
		}
		for _, o := range choice.choose(stored) {
			if !given[api.KeyOf(o)] && prunable(o) {
				toPrune = append(toPrune, o)
			}
		}
	}
	slices.SortFunc(toPrune, func(a, b api.Object) int { return cmp.Compare(api.KeyOf(a).String(), api.KeyOf(b).String()) })
	baseLast(toPrune)
	return toPrune, nil
}

// prunable says whether an object may be pruned: people write it, and the cluster works without it.
func prunable(o api.Object) bool {
	switch o.(type) {
	case *api.Node, *api.ClusterInformation:
		return false
	case *api.FelixConfiguration, *api.BGPConfiguration, *api.IPAMConfiguration, *api.KubeControllersConfiguration:
		if o.Meta().Name == "default" {
			return false
		}
	}
	return notWritable("prune", o) == nil && datastore.Deletable(api.KeyOf(o)) == nil
}

// pruner returns the worker that deletes the objects to prune.
func (w *worker) pruner() *worker {
	j := job{verb: verb{"prune", "pruned"}, tell: doneLine}
	j.act = func(ctx context.Context, st store, o api.Object) (string, error) {
		_, err := deleteObject(ctx, st, o)
		return "pruned", err
	}
	if w.dry {
		j = rehearsed(j)
	}
	return &worker{session: w.session, st: w.st, job: j, dry: w.dry}
}

// pruneAfter prunes, if every object of the input was accepted.
func (w *worker) pruneAfter(ctx context.Context, objects []api.Object) error {
	if !w.prune.on || w.out.interrupted || len(w.out.errs) > 0 {
		return nil
	}
	toPrune, err := w.toPrune(ctx, w.st, objects)
	if err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	if err := w.confirmLoss(ctx, toPrune); err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	pruner := w.pruner()
	pruner.run(ctx, toPrune)
	w.pruned = pruner.out
	return nil
}

// reportPruned prints the outcome of the pruning, and returns its failures.
func (w *worker) reportPruned() error {
	if w.pruned.total == 0 {
		return nil
	}
	return w.report(w.pruner().job.verb, w.pruned)
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/datastore"
)

// verb is the name of an action and its past tense.
type verb struct{ name, past string }

const (
	conflictTries = 5
	conflictPause = time.Second
)

// writing holds the flags of a verb that writes.
type writing struct {
	in     input
	at     scope
	dryRun string
	atomic bool
	prune  pruning
}

func (f *writing) addFlags(cmd *cobra.Command) {
	f.in.addFlags(cmd)
	addNamespaceFlag(cmd, &f.at)
	cmd.Flags().StringVar(&f.dryRun, "dry-run", "none", "none, or server: check everything against the datastore and write nothing")
	cmd.Flags().BoolVar(&f.atomic, "atomic", false, "all objects in one transaction: all are written, or none")
}

func addNamespaceFlag(cmd *cobra.Command, at *scope) {
	cmd.Flags().StringVarP(&at.namespace, "namespace", "n", "", "namespace of the objects; without it, the namespace in the manifest, or else default")
}

// check refuses flags that are not valid.
func (f writing) check(s *session) error {
	if f.dryRun != "none" && f.dryRun != "server" {
		return fmt.Errorf("--dry-run=%s: want server or none", f.dryRun)
	}
	return f.prune.check(s)
}

// dry says whether nothing may be written.
func (f writing) dry() bool { return f.dryRun == "server" }

// writeInput does a job to the objects of the input, and reports the outcome.
func (s *session) writeInput(ctx context.Context, j job, f writing, report func(verb, outcome) error) error {
	if err := f.check(s); err != nil {
		return err
	}
	objects, err := s.load(f.in)
	if err != nil {
		return err
	}
	if err := f.prune.fits(s, objects); err != nil {
		return err
	}
	baseFirst(objects)
	return s.writeObjects(ctx, j, f, objects, report)
}

// writeObjects does a job to objects in order, and reports the outcome.
func (s *session) writeObjects(ctx context.Context, j job, f writing, objects []api.Object, report func(verb, outcome) error) error {
	if len(objects) == 0 {
		return report(j.verb, outcome{})
	}
	w, closeStore, err := s.begin(ctx, j, f)
	if err != nil {
		return err
	}
	defer closeStore()
	if j.asks {
		if err := w.confirmLoss(ctx, objects); err != nil {
			return err
		}
	}
	if !f.atomic || !w.dry {
		w.initialize(ctx, w.st)
	}
	if f.atomic {
		w.atomically(ctx, objects)
	} else {
		w.run(ctx, objects)
		err = w.pruneAfter(ctx, objects)
	}
	s.tellTraps(ctx, w.st, w.written)
	if w.out.skipped > 0 {
		fmt.Fprintf(s.stderr, "%d of %d %s\n", w.out.skipped, w.out.total, w.job.skips)
	}
	if err := report(w.job.verb, w.out); err != nil {
		return hints.With(err, w.hint, f.prune.hint())
	}
	return cmp.Or(err, w.reportPruned())
}

// baseFirst moves objects that others refer to to the front. A policy cannot be written before its tier, nor a peer before its
// filters, but the files of a directory come in the order of their names. Otherwise the order stays.
func baseFirst(objects []api.Object) {
	slices.SortStableFunc(objects, func(a, b api.Object) int { return cmp.Compare(height(a), height(b)) })
}

// baseLast sorts objects for deletion: a tier must be empty, and a node takes its endpoints with it.
func baseLast(objects []api.Object) {
	slices.SortStableFunc(objects, func(a, b api.Object) int { return cmp.Compare(height(b), height(a)) })
}

// height is 0 for the kinds that other objects refer to, and 1 for all others.
func height(o api.Object) int {
	switch o.(type) {
	case *api.Tier, *api.Node, *api.BGPFilter:
		return 0
	}
	return 1
}

// warn prints warnings about an accepted object: about its own values, and about other objects that it does not fit.
func (s *session) warn(ctx context.Context, st store, o api.Object) {
	for _, w := range api.OwnWarnings(o) {
		fmt.Fprint(s.stderr, warningLine(o, w))
	}
	s.tellTraps(ctx, st, []api.Object{o})
}

func warningLine(o api.Object, text string) string {
	return fmt.Sprintf("warning: %s: %s\n", api.KeyOf(o), text)
}

// rehearsed returns the dry run of a job, which says for each object what would be done to it.
func rehearsed(j job) job {
	j.verb.past += " (dry run)"
	j.tell = func(o api.Object, done string) string { return doneLine(o, done+" (dry run)") }
	return j
}

// doneLine returns the line that says what was done to an object.
func doneLine(o api.Object, done string) string {
	return fmt.Sprintf("%s: %s\n", api.KeyOf(o), done)
}

// nameWorkloadEndpoint names a workload endpoint after its fields, if it was written without a name.
func nameWorkloadEndpoint(o api.Object) {
	if wep, ok := o.(*api.WorkloadEndpoint); ok && wep.Name == "" {
		if name, err := api.WorkloadEndpointName(wep.Spec); err == nil {
			wep.Name = name
		}
	}
}

// create writes a new object. Of its metadata it keeps only the fields that people write.
func create(ctx context.Context, st store, o api.Object) error {
	given := *o.Meta()
	*o.Meta() = api.Metadata{
		Name: given.Name, Namespace: given.Namespace, ResourceVersion: given.ResourceVersion,
		Labels: given.Labels, Annotations: given.Annotations,
	}
	_, err := st.Create(ctx, o)
	return err
}

// update overwrites an existing object, and says what it did. An object with a resourceVersion is written only over that
// version. Any other object is written over the stored version, and tried again if somebody changes that meanwhile.
func (s *session) update(ctx context.Context, st store, o api.Object, equal ifEqual) (string, error) {
	given, done := *o.Meta(), updated
	err := s.retry(ctx, given.ResourceVersion != "", func() error {
		current, err := st.Get(ctx, api.KeyOf(o))
		readable := err == nil
		if unreadable, ok := asUnreadable(err); ok {
			current, err = unreadable.Current, nil // overwriting it repairs it
		}
		if err != nil {
			return err
		}
		keepAssigned(o, current)
		meta := *current.Meta()
		meta.Labels, meta.Annotations = given.Labels, given.Annotations
		if given.ResourceVersion != "" {
			meta.ResourceVersion = given.ResourceVersion
		}
		*o.Meta() = meta
		sameVersion := meta.ResourceVersion == current.Meta().ResourceVersion
		if equal == skipEqual && readable && sameVersion && datastore.Equal(current, o) {
			done = unchanged
			return nil
		}
		_, err = st.Update(ctx, o)
		return err
	})
	return done, err
}

// keepAssigned gives an endpoint that asks the agent for addresses those that it has already. The manifest does not name them, and
// without them the endpoint would be closed until the agent has written them again.
func keepAssigned(given, stored api.Object) {
	endpoint, ok := given.(*api.WorkloadEndpoint)
	if !ok {
		return
	}
	_, asks, err := api.AddressRequestOf(endpoint)
	before, same := stored.(*api.WorkloadEndpoint)
	if !asks || err != nil || !same {
		return
	}
	if _, asked := before.Annotations[api.AddressAnnotation]; asked && before.Spec.Node == endpoint.Spec.Node {
		endpoint.Spec.IPNetworks = before.Spec.IPNetworks
	}
}

// ifEqual says what to do with an object that is stored already as it is given.
type ifEqual bool

const (
	skipEqual  ifEqual = true
	writeEqual ifEqual = false
)

// retry repeats a read and write that conflicted with another writer: conflictTries times, with conflictPause in between.
// With once, it tries only once.
func (s *session) retry(ctx context.Context, once bool, attempt func() error) error {
	for try := 1; ; try++ {
		err := attempt()
		if once || try == conflictTries || !isConflict(err) {
			return err
		}
		s.log.WithError(err).Info("someone else changed the object; trying again")
		if err := s.pause(ctx, conflictPause); err != nil {
			return err
		}
	}
}

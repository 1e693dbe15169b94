package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
)

// verb is the name of an action and its past tense.
type verb struct{ name, past string }

const (
	conflictTries = 5
	conflictPause = time.Second
)

// each runs an action over the objects in order; it goes on after a failure.
func each(out *outcome, objects []api.Object, at place, action func(api.Object) error) {
	for _, o := range objects {
		err := at.settle(o)
		if err == nil {
			err = action(o)
		}
		if err != nil {
			out.errs = append(out.errs, err)
			continue
		}
		out.handled++
	}
}

// write opens the datastore, makes sure that it is initialised, and runs an action over the objects of the input.
func (s *session) write(ctx context.Context, v verb, in input, at place, action func(store, api.Object) error) (outcome, error) {
	objects, err := s.load(in)
	if err != nil || len(objects) == 0 {
		return outcome{}, err
	}
	baseFirst(objects)
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return outcome{}, err
	}
	defer closeStore()
	if err := st.EnsureInitialized(ctx); err != nil {
		// A user may be allowed to write policies and nothing else.
		s.log.WithError(err).Info("the datastore is not initialised by this command")
	}
	out := newOutcome(objects)
	each(&out, objects, at, func(o api.Object) error {
		if err := notWritable(v.name, o); err != nil {
			return err
		}
		nameWorkloadEndpoint(o)
		if err := action(st, o); err != nil {
			return err
		}
		s.warn(o, endOfTier(ctx, st, o))
		return nil
	})
	return out, nil
}

// baseFirst moves the objects that others stand on to the front: a policy cannot be written before its tier, and the files
// of a directory come in the order of their names. Everything else stays in the order in which it was given.
func baseFirst(objects []api.Object) {
	slices.SortStableFunc(objects, func(a, b api.Object) int { return cmp.Compare(height(a), height(b)) })
}

// baseLast is the order for deletions: a tier must be empty, and a node takes its endpoints with it.
func baseLast(objects []api.Object) {
	slices.SortStableFunc(objects, func(a, b api.Object) int { return cmp.Compare(height(b), height(a)) })
}

func height(o api.Object) int {
	switch o.(type) {
	case *api.Tier, *api.Node:
		return 0
	}
	return 1
}

// warn tells what is probably not meant in an object that was accepted. endOfTier is what is known of a policy's tier.
func (s *session) warn(o api.Object, endOfTier api.Action) {
	for _, w := range api.Warnings(o, endOfTier) {
		fmt.Fprintf(s.stderr, "warning: %s: %s\n", api.KeyOf(o), w)
	}
}

// endOfTier is the default action of the tier that a policy is in; empty for other kinds, and when it cannot be read.
func endOfTier(ctx context.Context, st store, o api.Object) api.Action {
	policy, _, ok := api.PolicyOf(o)
	if !ok {
		return ""
	}
	stored, err := st.Get(ctx, api.Key{Kind: "Tier", Name: policy.Tier})
	if tier, ok := stored.(*api.Tier); ok && err == nil && tier.Spec.DefaultAction != nil {
		return *tier.Spec.DefaultAction
	}
	return ""
}

// nameWorkloadEndpoint gives an endpoint that was written without a name the one that follows from its fields.
func nameWorkloadEndpoint(o api.Object) {
	if wep, ok := o.(*api.WorkloadEndpoint); ok && wep.Name == "" {
		if name, err := api.WorkloadEndpointName(wep.Spec); err == nil {
			wep.Name = name
		}
	}
}

// create writes a new object. Of its metadata only what people write is kept.
func create(ctx context.Context, st store, o api.Object) error {
	given := *o.Meta()
	*o.Meta() = api.Metadata{
		Name: given.Name, Namespace: given.Namespace, ResourceVersion: given.ResourceVersion,
		Labels: given.Labels, Annotations: given.Annotations,
	}
	_, err := st.Create(ctx, o)
	return err
}

// update overwrites an existing object. An object that names the version it was made from is written over that version or
// not at all; any other is written over whatever is there, and tried again when it changes meanwhile. It says what was done.
func (s *session) update(ctx context.Context, st store, o api.Object, equal ifEqual) (string, error) {
	given, done := *o.Meta(), updated
	err := s.retry(ctx, given.ResourceVersion != "", func() error {
		current, err := st.Get(ctx, api.KeyOf(o))
		readable := err == nil
		if unreadable, ok := asUnreadable(err); ok {
			current, err = unreadable.Current, nil // overwriting it is the way out
		}
		if err != nil {
			return err
		}
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

// ifEqual is what to do with an object that is stored already as it is given.
type ifEqual bool

const (
	skipEqual  ifEqual = true
	writeEqual ifEqual = false
)

// retry repeats a read and write that met someone else's write.
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

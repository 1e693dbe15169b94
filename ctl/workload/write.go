package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/datastore"
)

// Wanted is a WorkloadEndpoint that must exist.
type Wanted struct {
	Endpoint *api.WorkloadEndpoint
	Request  *api.AddressRequest // choose its addresses; nil: it has those in ipNetworks
}

// Set is a change of endpoints that happens as a whole or not at all.
type Set struct {
	Maker  string // the command that makes the endpoints
	Wanted []Wanted
	// Make returns what is wanted besides, from all stored endpoints; nil: nothing. A conflict has it called again.
	Make   func(stored []*api.WorkloadEndpoint) ([]Wanted, error)
	Remove func(*api.WorkloadEndpoint) bool // chooses stored endpoints to remove; nil: none
}

// Outcome says what happened to an endpoint.
type Outcome struct {
	Endpoint *api.WorkloadEndpoint
	Done     string // one of the words below
}

const (
	created   = "created"
	updated   = "updated"
	unchanged = "unchanged"
	removed   = "removed"
)

// Write makes a change, with the addresses in IPAM, in one transaction. If it fails or is interrupted before it is sent, nothing has
// changed. A repeated change finds everything done. With dry, the datastore is only asked whether it would accept the change.
func (s Session) Write(ctx context.Context, st Store, set Set, dry bool) (outcomes []Outcome, err error) {
	sent := false
	err = s.Retry(ctx, func() error {
		tx := st.WhileUnlocked().Begin()
		c := change{tx: tx, set: set}
		var err error
		if outcomes, err = c.stage(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if dry {
			return tx.Check(ctx)
		}
		sent = true
		ctx, done := uninterrupted(ctx)
		defer done()
		return tx.Commit(ctx)
	})
	switch {
	case err == nil:
		return outcomes, nil
	case sent && !datastore.Refused(err):
		return nil, hints.With(err, "the datastore did not confirm the change, so all of it is made, or nothing: run the same command again")
	}
	return nil, hints.With(err, "nothing was changed")
}

// uninterrupted returns a context that a signal does not end, for a commit that has begun. A deadline stays.
func uninterrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	whole := context.WithoutCancel(ctx)
	if until, limited := ctx.Deadline(); limited {
		return context.WithDeadline(whole, until)
	}
	return whole, func() {}
}

// change is one attempt to make the changes of a Set.
type change struct {
	tx     *datastore.Transaction
	set    Set
	stored []*api.WorkloadEndpoint // all endpoints before the change
}

func (c *change) stage(ctx context.Context) (outcomes []Outcome, err error) {
	objects, _, err := c.tx.List(ctx, api.KindWorkloadEndpoint, "")
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if ep, ok := o.(*api.WorkloadEndpoint); ok {
			c.stored = append(c.stored, ep)
		}
	}
	if c.set.Make != nil {
		made, err := c.set.Make(c.stored)
		if err != nil {
			return nil, err
		}
		c.set.Wanted = slices.Concat(c.set.Wanted, made)
	}
	for _, wanted := range c.set.Wanted {
		outcome, err := c.put(ctx, wanted)
		if err != nil {
			return nil, err
		}
		outcomes = append(outcomes, outcome)
	}
	for _, ep := range c.stored {
		if !c.leaves(ep) {
			continue
		}
		if err := c.remove(ctx, ep); err != nil {
			return nil, err
		}
		outcomes = append(outcomes, Outcome{ep, removed})
	}
	return outcomes, nil
}

// leaves says whether the change removes a stored endpoint.
func (c *change) leaves(ep *api.WorkloadEndpoint) bool {
	return c.set.Remove != nil && !c.wants(api.KeyOf(ep)) && c.set.Remove(ep)
}

func (c *change) wants(key api.Key) bool {
	for _, wanted := range c.set.Wanted {
		if api.KeyOf(wanted.Endpoint) == key {
			return true
		}
	}
	return false
}

// put creates or updates an endpoint.
func (c *change) put(ctx context.Context, wanted Wanted) (Outcome, error) {
	ep := *wanted.Endpoint
	stored, err := c.get(ctx, api.KeyOf(&ep))
	if err != nil {
		return Outcome{}, err
	}
	ep.Annotations = c.annotations(&ep, wanted.Request, stored)
	if ep.Spec.IPNetworks, err = c.addresses(ctx, &ep, wanted.Request, stored); err != nil {
		return Outcome{}, err
	}
	if stored == nil {
		o, err := c.tx.Create(ctx, &ep)
		return outcomeOf(o, created, err)
	}
	given := ep.Metadata
	ep.Metadata = stored.Metadata
	ep.Labels, ep.Annotations = given.Labels, given.Annotations
	keepOthersFields(&ep.Spec, stored.Spec)
	if err := c.releaseFormer(ctx, stored, ep.Spec.IPNetworks); err != nil {
		return Outcome{}, err
	}
	if datastore.Equal(stored, &ep) {
		return Outcome{stored, unchanged}, nil
	}
	o, err := c.tx.Update(ctx, &ep)
	return outcomeOf(o, updated, err)
}

func outcomeOf(o api.Object, done string, err error) (Outcome, error) {
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{o.(*api.WorkloadEndpoint), done}, nil
}

// get returns the stored form of an endpoint, or nil. It refuses one that another command or a person has made.
func (c *change) get(ctx context.Context, key api.Key) (*api.WorkloadEndpoint, error) {
	o, err := c.tx.Get(ctx, key)
	if _, missing := errors.AsType[datastore.NotFoundError](err); missing {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	stored, ok := o.(*api.WorkloadEndpoint)
	if !ok {
		return nil, fmt.Errorf("%v is no WorkloadEndpoint", key)
	}
	if maker := stored.Annotations[api.MadeByAnnotation]; maker != c.set.Maker {
		return nil, refuseForeign(stored, maker)
	}
	return stored, nil
}

// refuseForeign returns the error about an endpoint that another command has made.
func refuseForeign(ep *api.WorkloadEndpoint, maker string) error {
	if maker == "" {
		return hints.With(fmt.Errorf("%v exists, and no command of margayctl has made it, so it is left alone", api.KeyOf(ep)),
			"change or delete it with margayctl apply, patch or delete, or give another name")
	}
	return hints.With(fmt.Errorf("%v exists, and %s has made it, so it is left alone", api.KeyOf(ep), maker),
		"use that command, or give another name")
}

// annotations returns those of the command, and those of other programs that the stored endpoint has.
func (c *change) annotations(ep *api.WorkloadEndpoint, request *api.AddressRequest, stored *api.WorkloadEndpoint) map[string]string {
	all := map[string]string{}
	if stored != nil {
		maps.Copy(all, stored.Annotations)
	}
	delete(all, api.AddressAnnotation)
	delete(all, api.MissingSinceAnnotation)
	maps.Copy(all, ep.Annotations)
	all[api.MadeByAnnotation] = c.set.Maker
	if request != nil {
		all[api.AddressAnnotation] = request.Text()
	}
	return all
}

// keepOthersFields keeps the fields that no command sets.
func keepOthersFields(spec *api.WorkloadEndpointSpec, stored api.WorkloadEndpointSpec) {
	spec.ContainerID, spec.Pod, spec.ServiceAccountName = stored.ContainerID, stored.Pod, stored.ServiceAccountName
	spec.IPNATs, spec.IPv4Gateway, spec.IPv6Gateway = stored.IPNATs, stored.IPv4Gateway, stored.IPv6Gateway
	spec.Ports, spec.AllowSpoofedSourcePrefixes, spec.QoSControls = stored.Ports, stored.AllowSpoofedSourcePrefixes, stored.QoSControls
}

// remove deletes an endpoint and gives its addresses back.
func (c *change) remove(ctx context.Context, ep *api.WorkloadEndpoint) error {
	if maker := ep.Annotations[api.MadeByAnnotation]; maker != c.set.Maker && c.set.Maker != "" {
		return refuseForeign(ep, maker)
	}
	if err := c.releaseFormer(ctx, ep, nil); err != nil {
		return err
	}
	_, err := c.tx.Delete(ctx, api.KeyOf(ep), ep.ResourceVersion)
	return err
}

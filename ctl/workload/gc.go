package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/print"
	"github.com/margay-project/margay/datastore"
)

// collection holds the flags of workload gc.
type collection struct {
	node       string
	missingFor time.Duration
	allNodes   bool
	remove     bool
	output     string
}

func newGC(s Session) *cobra.Command {
	var f collection
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Find endpoints whose interface is gone, and delete them",
		Long: `Find endpoints whose interface is gone, as a host leaves them behind that dies, or a hook that is killed. They are the WorkloadEndpoints
of this node that margayctl workload, margayctl vm or margay-cni has made and whose interface this machine does not have. With --all-nodes also those
of nodes that no longer exist. Endpoints that were applied as manifests are left alone.

The command lists them and notes in each, in the annotation margay.io/missing-since, since when its interface is missing; it removes the
note when the interface is back. With --delete it deletes those that have been missing for the time of --missing-for, and gives
their addresses back: run it twice, or by a timer. A VM that is switched off has no interface either.`,
		Example: `  margayctl workload gc
  margayctl workload gc --delete --missing-for 24h
  margayctl workload gc --all-nodes --delete`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.missingFor < 0 {
				return fmt.Errorf("--missing-for=%v: want a duration such as 1h or 30m", f.missingFor)
			}
			if err := print.CheckOutput(f.output); err != nil {
				return err
			}
			return s.collect(cmd.Context(), &f)
		},
	}
	cmd.Flags().StringVar(&f.node, "node", "", "the name of this machine's Node (default that which felix has)")
	cmd.Flags().BoolVar(&f.allNodes, "all-nodes", false, "also endpoints of Nodes that no longer exist")
	cmd.Flags().BoolVar(&f.remove, "delete", false, "delete those that have been missing for long enough")
	cmd.Flags().DurationVar(&f.missingFor, "missing-for", time.Hour, "how long an interface must have been missing")
	s.complete(cmd, "node", api.KindNode)
	addTableOutput(cmd, &f.output)
	return cmd
}

// leftover is an endpoint without an interface.
type leftover struct {
	endpoint *api.WorkloadEndpoint
	since    time.Time
	reason   string
	state    string // missing or deleted
}

func (s Session) collect(ctx context.Context, f *collection) error {
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	gone, err := s.goneFrom(ctx, st, f)
	if err != nil {
		return err
	}
	found, err := place{everywhere: true}.endpoints(ctx, st, func(ep *api.WorkloadEndpoint) bool {
		return slices.Contains(api.Makers(), ep.Annotations[api.MadeByAnnotation])
	})
	if err != nil {
		return err
	}
	var left []leftover
	var failures []error
	for _, ep := range found {
		one, err := s.examine(ctx, st, ep, gone, f)
		if err != nil {
			failures = append(failures, fmt.Errorf("%v: %w", api.KeyOf(ep), err))
		}
		if one.reason != "" {
			left = append(left, one)
		}
	}
	return errors.Join(append(failures, s.printLeft(left, f))...)
}

// goneFrom returns a function that says why an endpoint has no interface; empty if it has one, or if that cannot be known here.
func (s Session) goneFrom(ctx context.Context, st Store, f *collection) (func(*api.WorkloadEndpoint) string, error) {
	here := f.node
	if here == "" {
		var err error
		if here, err = s.NodeHere(ctx, st); err != nil {
			return nil, err
		}
	}
	names, err := s.Interfaces()
	if err != nil {
		return nil, err
	}
	objects, _, err := st.List(ctx, api.KindNode, "")
	if err != nil {
		return nil, err
	}
	nodes := map[string]bool{here: true}
	for _, o := range objects {
		nodes[o.Meta().Name] = true
	}
	return func(ep *api.WorkloadEndpoint) string {
		switch {
		case ep.Spec.Node == here && !names[ep.Spec.InterfaceName]:
			return "no interface " + ep.Spec.InterfaceName
		case f.allNodes && !nodes[ep.Spec.Node]:
			return "no Node " + ep.Spec.Node
		}
		return ""
	}, nil
}

// examine notes since when an endpoint has no interface, or that it has one again, and deletes it if its time is over.
func (s Session) examine(ctx context.Context, st Store, ep *api.WorkloadEndpoint, gone func(*api.WorkloadEndpoint) string, f *collection) (leftover, error) {
	one := leftover{endpoint: ep, reason: gone(ep), since: s.Now(), state: "missing"}
	noted := ep.Annotations[api.MissingSinceAnnotation]
	since, err := time.Parse(time.RFC3339, noted)
	switch {
	case one.reason == "" && noted != "":
		return one, s.note(ctx, st, ep, gone, "")
	case one.reason == "":
		return one, nil
	case err == nil:
		one.since = since
	default:
		if err := s.note(ctx, st, ep, gone, one.since.UTC().Format(time.RFC3339)); err != nil {
			return one, err
		}
	}
	if !f.remove || s.Now().Sub(one.since) < f.missingFor {
		return one, nil
	}
	key := api.KeyOf(ep)
	outcomes, err := s.Write(ctx, st, Set{Remove: func(stored *api.WorkloadEndpoint) bool {
		return api.KeyOf(stored) == key && gone(stored) != "" && slices.Contains(api.Makers(), stored.Annotations[api.MadeByAnnotation])
	}}, false)
	if err == nil && len(outcomes) > 0 {
		one.state = "deleted"
	}
	return one, err
}

// note writes or removes the annotation, unless the endpoint has gone or changed its interface meanwhile.
func (s Session) note(ctx context.Context, st Store, ep *api.WorkloadEndpoint, gone func(*api.WorkloadEndpoint) string, since string) error {
	return s.Retry(ctx, func() error {
		o, err := st.Get(ctx, api.KeyOf(ep))
		if _, missing := errors.AsType[datastore.NotFoundError](err); missing {
			return nil
		}
		if err != nil {
			return err
		}
		stored, ok := o.(*api.WorkloadEndpoint)
		if !ok || (gone(stored) == "") != (since == "") {
			return nil
		}
		if since == "" {
			delete(stored.Annotations, api.MissingSinceAnnotation)
		} else {
			stored.Annotations[api.MissingSinceAnnotation] = since
		}
		_, err = st.WhileUnlocked().Update(ctx, stored)
		return err
	})
}

func (s Session) printLeft(left []leftover, f *collection) error {
	if f.output != "table" {
		var endpoints []*api.WorkloadEndpoint
		for _, one := range left {
			endpoints = append(endpoints, one.endpoint)
		}
		return s.printList(endpoints, f.output)
	}
	if len(left) == 0 {
		fmt.Fprintln(s.Stdout, "No endpoint is left over.")
		return nil
	}
	var rows [][]string
	waiting := 0
	for _, one := range left {
		ep := one.endpoint
		if one.state == "missing" {
			waiting++
		}
		rows = append(rows, []string{
			ep.Namespace, nameOf(ep), ep.Spec.Endpoint, ep.Spec.Node, addressesText(ep), one.reason, one.since.UTC().Format(time.RFC3339), one.state,
		})
	}
	print.Box(s.Stdout, []string{"NAMESPACE", "WORKLOAD", "ENDPOINT", "NODE", "ADDRESSES", "REASON", "MISSING SINCE", "STATE"}, rows)
	if waiting > 0 {
		fmt.Fprintf(s.Stdout, "%d endpoints are missing. --delete deletes those that have been missing for %v (--missing-for).\n", waiting, f.missingFor)
	}
	return nil
}

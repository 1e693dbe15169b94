package workload

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
)

// removal holds the flags of workload remove.
type removal struct {
	place       place
	endpoint    string
	skipMissing bool
	out         Output
}

func newRemove(s Session) *cobra.Command {
	var f removal
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove the endpoints of a workload, and give its addresses back",
		Long: `Remove the endpoints of a workload that margayctl workload add has made, and give their addresses back, in one transaction. An
address that another endpoint has stays recorded for that one. The interfaces of the workload stay, and are closed as long as they exist.

If the workload has endpoints on several nodes, --node says which.`,
		Example: `  margayctl workload remove web
  margayctl workload remove db --endpoint eth1 --node host1 --dry-run`,
		Args: arguments.Exactly(1, "NAME"),
		ValidArgsFunction: func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			return s.completeWorkload(cmd.Context(), f.place, given, true), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.out.Check(); err != nil {
				return err
			}
			return s.remove(cmd.Context(), args[0], &f)
		},
	}
	f.place.addFlags(s, cmd)
	cmd.Flags().StringVar(&f.endpoint, "endpoint", "", "only the endpoint with this name")
	cmd.Flags().BoolVarP(&f.skipMissing, "skip-not-exists", "s", false, "accept a workload that does not exist")
	f.out.AddFlags(cmd)
	return cmd
}

func (s Session) remove(ctx context.Context, name string, f *removal) error {
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	chosen := func(ep *api.WorkloadEndpoint) bool {
		return ep.Namespace == f.place.namespace && nameOf(ep) == name && (f.endpoint == "" || ep.Spec.Endpoint == f.endpoint) &&
			(f.place.node == "" || ep.Spec.Node == f.place.node)
	}
	found, err := f.place.endpoints(ctx, st, chosen)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		if f.skipMissing {
			return nil
		}
		return hints.With(fmt.Errorf("namespace %s has no workload %s%s", f.place.namespace, name, f.limits()), "margayctl workload list -A lists all workloads")
	}
	if nodes := nodesOf(found); len(nodes) > 1 {
		return hints.With(fmt.Errorf("workload %s is on several nodes: %s", name, strings.Join(nodes, ", ")), "nothing was changed: give one of them with --node")
	}
	outcomes, err := s.Write(ctx, st, Set{Maker: api.MadeByWorkload, Remove: chosen}, f.out.Dry())
	if err != nil {
		return err
	}
	return s.Report(outcomes, f.out)
}

// limits describes the flags that leave out endpoints.
func (f *removal) limits() (text string) {
	if f.endpoint != "" {
		text += " with endpoint " + f.endpoint
	}
	if f.place.node != "" {
		text += " on node " + f.place.node
	}
	return text
}

func nodesOf(found []*api.WorkloadEndpoint) []string {
	nodes := map[string]bool{}
	for _, ep := range found {
		nodes[ep.Spec.Node] = true
	}
	return sortedNames(nodes)
}

// completeWorkload returns the names of workloads, or nil if the datastore cannot be read. With ours, only those of this command.
func (s Session) completeWorkload(ctx context.Context, at place, given []string, ours bool) []string {
	if len(given) > 0 {
		return nil
	}
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return nil
	}
	defer closeStore()
	found, err := at.endpoints(ctx, st, func(ep *api.WorkloadEndpoint) bool {
		return !ours || ep.Annotations[api.MadeByAnnotation] == api.MadeByWorkload
	})
	if err != nil {
		return nil
	}
	var names []string
	for _, ep := range found {
		names = append(names, nameOf(ep))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

package workload

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/datastore"
)

// Session is the part of a run of margayctl that these commands use.
type Session struct {
	Stdout, Stderr io.Writer
	Now            func() time.Time
	// Open connects to the datastore. The caller calls the function that it returns when it needs the store no more.
	Open func(ctx context.Context) (Store, func(), error)
	// Retry repeats an attempt that conflicted with another writer.
	Retry func(ctx context.Context, attempt func() error) error
	// Warn prints what written objects lack, such as a profile that does not exist.
	Warn func(ctx context.Context, st Store, written []api.Object)
	// NodeHere returns the name of this machine's node.
	NodeHere func(ctx context.Context, st Store) (string, error)
	// Interfaces returns all names of this machine's interfaces that an endpoint may give: also alternative names and aliases.
	Interfaces func() (map[string]bool, error)
	// NamesOf completes the names of a kind's objects, without those that are given already.
	NamesOf func(ctx context.Context, kind string, given []string) []string
}

// Store is the part of the datastore that the commands use.
type Store interface {
	Get(ctx context.Context, key api.Key) (api.Object, error)
	List(ctx context.Context, kind, namespace string) ([]api.Object, string, error)
	WhileUnlocked() *datastore.Store // the same store, whose changes fail while it is locked
}

// New returns the command workload with its own commands.
func New(s Session) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "workload",
		Aliases: []string{"workloads"},
		Short:   "Put interfaces of VMs under policy, and take them out again",
		Long: `Put interfaces of VMs under policy, and take them out again. A workload is a VM, or anything else with an interface on a host. Its
WorkloadEndpoints, one for each interface, can also be written as manifests and applied.`,
		Example: `  margayctl workload add web --interface tap0 --ipam auto --label role=web
  margayctl workload list
  margayctl workload remove web`,
		Args: arguments.NoSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAdd(s), newList(s), newShow(s), newRemove(s), newGC(s))
	return cmd
}

// complete has a flag completed with the names of a kind's objects.
func (s Session) complete(cmd *cobra.Command, flag, kind string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return s.NamesOf(cmd.Context(), kind, nil), cobra.ShellCompDirectiveNoFileComp
	})
}

// place holds the flags that say where workloads are looked for.
type place struct {
	namespace, node string
	everywhere      bool
}

func (p *place) addFlags(s Session, cmd *cobra.Command) {
	cmd.Flags().StringVarP(&p.namespace, "namespace", "n", "default", "the namespace of the workload")
	cmd.Flags().StringVar(&p.node, "node", "", "only endpoints of this Node")
	s.complete(cmd, "node", api.KindNode)
}

// endpoints returns the stored endpoints of a place, in the order of their keys, that a condition holds for.
func (p place) endpoints(ctx context.Context, st Store, holds func(*api.WorkloadEndpoint) bool) (found []*api.WorkloadEndpoint, err error) {
	namespace := p.namespace
	if p.everywhere {
		namespace = ""
	}
	objects, _, err := st.List(ctx, api.KindWorkloadEndpoint, namespace)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		ep, ok := o.(*api.WorkloadEndpoint)
		if ok && (p.node == "" || ep.Spec.Node == p.node) && holds(ep) {
			found = append(found, ep)
		}
	}
	return found, nil
}

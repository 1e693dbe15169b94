package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
)

func newDatastore(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "datastore",
		Short:   "Maintain the datastore as a whole",
		Example: "  margayctl datastore migrate lock",
		Args:    arguments.NoSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	migrate := &cobra.Command{
		Use:     "migrate",
		Short:   "Lock the datastore, and move it to another etcd",
		Example: "  margayctl datastore migrate lock\n  margayctl datastore migrate export > calico.export",
		Args:    arguments.NoSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	migrate.AddCommand(
		newLock(s, "lock", false, "Stop every agent from following the datastore; the policy in force stays",
			"margayctl datastore migrate lock\n  margayctl get clusterinfo"),
		newLock(s, "unlock", true, "Let the agents follow the datastore again",
			"margayctl datastore migrate unlock"),
		newExport(s), newImport(s), hidden(newPolicyNames(s, "datastore migrate")),
	)
	cmd.AddCommand(migrate, newPolicyNames(s, "datastore"))
	return cmd
}

// hidden hides a command from help: it is the second name of another one.
func hidden(cmd *cobra.Command) *cobra.Command {
	cmd.Hidden = true
	return cmd
}

func newLock(s *session, name string, ready bool, short, example string) *cobra.Command {
	return &cobra.Command{
		Use:     name,
		Short:   short,
		Example: "  " + example,
		Args:    arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.setReady(cmd.Context(), ready); err != nil {
				return err
			}
			fmt.Fprintf(s.stdout, "Datastore %sed.\n", name)
			return nil
		},
	}
}

// setReady sets datastoreReady in the ClusterInformation: whether agents may follow the datastore.
func (s *session) setReady(ctx context.Context, ready bool) error {
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return err
	}
	defer closeStore()
	if err := st.EnsureInitialized(ctx); err != nil {
		return err
	}
	return s.retry(ctx, false, func() error {
		o, err := st.Get(ctx, api.Key{Kind: api.KindClusterInformation, Name: "default"})
		if err != nil {
			return err
		}
		information := o.(*api.ClusterInformation)
		if is := information.Spec.DatastoreReady; is != nil && *is == ready {
			return nil
		}
		information.Spec.DatastoreReady = &ready
		_, err = st.Update(ctx, information)
		return err
	})
}

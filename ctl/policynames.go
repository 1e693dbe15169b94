package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
)

const policyNamesHelp = `Store the policies of the default tier under their own names.

Up to v3.29, Calico stored a policy foo of the default tier under the name default.foo. margayctl and felix find it under its
own name foo, and move it when it is next written. This command moves all such policies at once, so that calicoctl finds them
too. If a policy is stored under both names, foo is in force and default.foo is deleted. The command can be run at any time,
and again.`

// newPolicyNames is datastore migrate-policy-names. parent is its parent command: datastore, or datastore migrate.
func newPolicyNames(s *session, parent string) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "migrate-policy-names",
		Short: "Store policies under their own names, without the prefix default. of old versions",
		Long:  policyNamesHelp,
		Example: "  margayctl " + parent + " migrate-policy-names --dry-run\n" +
			"  margayctl " + parent + " migrate-policy-names",
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.migratePolicyNames(cmd.Context(), dryRun) },
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the changes and do not make them")
	return cmd
}

func (s *session) migratePolicyNames(ctx context.Context, dryRun bool) error {
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return err
	}
	defer closeStore()
	renamed, err := st.MigratePolicyNames(ctx, dryRun)
	for _, r := range renamed {
		old := r.Key
		old.Name = r.OldName
		if r.Newer {
			fmt.Fprintf(s.stderr, "%v: is deleted, because %v is also stored and in force\n", old, r.Key)
		} else {
			fmt.Fprintf(s.stderr, "%v: becomes %v\n", old, r.Key)
		}
	}
	if err != nil {
		return hints.With(err, fmt.Sprintf("%d policies are done; run the command again for the others", len(renamed)))
	}
	if dryRun {
		fmt.Fprintf(s.stdout, "Dry run: %d policies would be migrated.\n", len(renamed))
		return nil
	}
	fmt.Fprintf(s.stdout, "Policy name migration complete, migrated %d policies.\n", len(renamed))
	return nil
}

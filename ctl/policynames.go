package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
)

const policyNamesHelp = `Store the policies of the default tier under their own names.

Versions of Calico up to v3.29 stored a policy foo of the default tier under the name default.foo. It is found under its own name
all the same, and moves when it is next written; this command moves all of them at once, so that calicoctl finds them too. A policy
that is stored under both names is what the newer one says: the older one is deleted. It can be run at any time, and again.`

// newPolicyNames is datastore migrate-policy-names, and the same among the other migrations.
func newPolicyNames(s *session, parent string) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "migrate-policy-names",
		Short: "Store policies under their own names, without the default. of old versions",
		Long:  policyNamesHelp,
		Example: "  margayctl " + parent + " migrate-policy-names --dry-run\n" +
			"  margayctl " + parent + " migrate-policy-names",
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.migratePolicyNames(cmd.Context(), dryRun) },
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
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
			fmt.Fprintf(s.stderr, "%v: is deleted, because %v is stored as well\n", old, r.Key)
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

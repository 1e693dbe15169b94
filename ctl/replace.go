package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
)

func newReplace(s *session) *cobra.Command {
	var f writing
	cmd := &cobra.Command{
		Use:   "replace -f FILE",
		Short: "Overwrite objects from files; it is an error if they do not exist",
		Long: `Overwrite objects from files; it is an error if they do not exist.

An object with metadata.resourceVersion is written only if nobody changed it since.

` + atomicHelp,
		Example: `  margayctl get ippool vms-v4 -o yaml > pool.yaml
  margayctl replace -f pool.yaml`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j := job{verb: verb{"replace", "replaced"}, writes: true}
			j.act = func(ctx context.Context, st store, o api.Object) (string, error) {
				return s.update(ctx, st, o, writeEqual)
			}
			return s.writeInput(cmd.Context(), j, f, s.report)
		},
	}
	f.addFlags(cmd)
	return cmd
}

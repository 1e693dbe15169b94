package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
)

func newCreate(s *session) *cobra.Command {
	var f writing
	var skipExists bool
	cmd := &cobra.Command{
		Use:   "create -f FILE",
		Short: "Create objects from files; it is an error if they exist",
		Long: `Create objects from files; it is an error if they exist.

` + atomicHelp,
		Example: `  margayctl create -f docs/examples/tiers.yaml
  margayctl create -f policies/ --skip-exists`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j := job{verb: verb{"create", "created"}, writes: true, skips: "objects existed already and were not changed"}
			j.act = func(ctx context.Context, st store, o api.Object) (string, error) {
				err := create(ctx, st, o)
				if skipExists && isExists(err) {
					return unchanged, nil
				}
				return created, err
			}
			return s.writeInput(cmd.Context(), j, f, s.report)
		},
	}
	f.addFlags(cmd)
	cmd.Flags().BoolVar(&skipExists, "skip-exists", false, "leave objects that exist as they are")
	return cmd
}

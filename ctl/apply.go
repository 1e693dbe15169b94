package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
)

func newApply(s *session) *cobra.Command {
	var in input
	var at place
	v := verb{"apply", "applied"}
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or overwrite objects from files",
		Long: `Create or overwrite objects from files.

Every file is read and checked for syntax before anything is written. Objects are then written in order; after an error
the rest is still written, and the exit code is 1. Warnings about accepted objects go to standard error.`,
		Example: `  margayctl apply -f docs/examples/block-crypto-mining.yaml
  margayctl apply -f docs/examples/
  margayctl get gnp -o yaml | sed 's/order: 500/order: 600/' | margayctl apply -f -`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := s.write(cmd.Context(), v, in, at, func(st store, o api.Object) error {
				return s.apply(cmd.Context(), st, o)
			})
			if err != nil {
				return err
			}
			return s.report(v, out)
		},
	}
	in.addFlags(cmd)
	addNamespaceFlag(cmd, &at)
	return cmd
}

// apply creates an object, or updates it when it exists or may not be created.
func (s *session) apply(ctx context.Context, st store, o api.Object) error {
	given := *o.Meta()
	o.Meta().ResourceVersion = ""
	err := create(ctx, st, o)
	if !isExists(err) && !isUnsupported(err) {
		return err
	}
	*o.Meta() = given
	return s.update(ctx, st, o)
}

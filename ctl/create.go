package main

import (
	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
)

func newCreate(s *session) *cobra.Command {
	var in input
	var at place
	var skipExists bool
	v := verb{"create", "created"}
	cmd := &cobra.Command{
		Use:   "create -f FILE",
		Short: "Create objects from files; it is an error if they exist",
		Example: `  margayctl create -f docs/examples/tier.yaml
  margayctl create -f docs/examples/ --skip-exists`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := s.write(cmd.Context(), v, in, at, func(st store, o api.Object) error {
				err := create(cmd.Context(), st, o)
				if skipExists && isExists(err) {
					return nil
				}
				return err
			})
			if err != nil {
				return err
			}
			return s.report(v, out)
		},
	}
	in.addFlags(cmd)
	addNamespaceFlag(cmd, &at)
	cmd.Flags().BoolVar(&skipExists, "skip-exists", false, "leave objects that exist as they are")
	return cmd
}

func addNamespaceFlag(cmd *cobra.Command, at *place) {
	cmd.Flags().StringVarP(&at.namespace, "namespace", "n", "", "namespace of the objects; without it, that of the object, or default")
}

package main

import (
	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
)

func newReplace(s *session) *cobra.Command {
	var in input
	var at place
	v := verb{"replace", "replaced"}
	cmd := &cobra.Command{
		Use:   "replace -f FILE",
		Short: "Overwrite objects from files; it is an error if they do not exist",
		Long: `Overwrite objects from files; it is an error if they do not exist.

An object with metadata.resourceVersion is written only if nobody changed it since.`,
		Example: `  margayctl get ippool vms-v4 -o yaml > pool.yaml
  margayctl replace -f pool.yaml`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var attempted []error
			out, err := s.write(cmd.Context(), v, in, at, func(st store, o api.Object) error {
				_, err := s.update(cmd.Context(), st, o, writeEqual)
				if err != nil {
					attempted = append(attempted, err)
				}
				return err
			})
			if err != nil {
				return err
			}
			out.handled += len(attempted)
			return s.reportReplace(v, out)
		},
	}
	in.addFlags(cmd)
	addNamespaceFlag(cmd, &at)
	return cmd
}

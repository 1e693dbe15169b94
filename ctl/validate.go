package main

import (
	"fmt"
	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
)

func newValidate(s *session) *cobra.Command {
	var in input
	v := verb{"validate", "validated"}
	cmd := &cobra.Command{
		Use:   "validate -f FILE",
		Short: "Check files without a datastore",
		Long: `Check files without a datastore: syntax, fields, values. What depends on other objects, such as whether a policy's tier
exists or whether pools overlap, is only checked when the objects are written.`,
		Example: `  margayctl validate -f docs/examples/ -R`,
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			objects, err := s.load(in)
			if err != nil {
				return err
			}
			out := newOutcome(objects)
			for _, o := range objects {
				if err := s.validate(o); err != nil {
					out.errs = append(out.errs, err)
					continue
				}
				out.handled++
			}
			return s.report(v, out)
		},
	}
	in.addFlags(cmd)
	return cmd
}

func (s *session) validate(o api.Object) error {
	if err := (place{}).settle(o); err != nil {
		return err
	}
	nameWorkloadEndpoint(o)
	api.Default(o)
	if err := api.Validate(o); err != nil {
		return err
	}
	for _, w := range api.Warnings(o, "") {
		fmt.Fprint(s.stderr, warningLine(o, w))
	}
	return nil
}

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
)

func newValidate(s *session) *cobra.Command {
	var in input
	var calico bool
	v := verb{"validate", "validated"}
	cmd := &cobra.Command{
		Use:   "validate -f FILE",
		Short: "Check files without a datastore",
		Long: `Check files without a datastore: syntax, fields, values. Conditions on other objects, such as whether a policy's tier
exists or whether pools overlap, is only checked when the objects are written.

--calico also refuses what is valid here and not in Calico, for a datastore that Calico's agents or calicoctl use too.`,
		Example: `  margayctl validate -f docs/examples/ -R
  margayctl validate --calico -f policies/`,
		Args: arguments.None,
		RunE: func(*cobra.Command, []string) error {
			objects, err := s.load(in)
			if err != nil {
				return err
			}
			out, ends := newOutcome(objects), map[string]api.Action{}
			for _, o := range objects {
				if tier, ok := o.(*api.Tier); ok && tier.Spec.DefaultAction != nil {
					ends[tier.Name] = *tier.Spec.DefaultAction
				}
			}
			for _, o := range objects {
				err := s.validate(o, ends)
				if err == nil && calico {
					err = calicoRefuses(o)
				}
				if err != nil {
					out.errs = append(out.errs, err)
					continue
				}
				out.handled++
			}
			return s.report(v, out)
		},
	}
	in.addFlags(cmd)
	cmd.Flags().BoolVar(&calico, "calico", false, "refuse also what Calico does not accept or understand")
	return cmd
}

// calicoRefuses says what of a valid object Calico does not accept or understand.
func calicoRefuses(o api.Object) error {
	var found []string
	for _, r := range api.Relaxations() {
		found = append(found, r.Found(o)...)
	}
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("%v is not valid in Calico: %s", api.KeyOf(o), strings.Join(found, "; "))
}

// validate checks an object, and tells what is probably not meant in it. ends are the default actions of the tiers beside it.
func (s *session) validate(o api.Object, ends map[string]api.Action) error {
	if err := (place{}).settle(o); err != nil {
		return err
	}
	nameWorkloadEndpoint(o)
	api.Default(o)
	if err := api.Validate(o); err != nil {
		return err
	}
	for _, w := range api.Warnings(o, ends[tierOf(o)]) {
		fmt.Fprint(s.stderr, warningLine(o, w))
	}
	return nil
}

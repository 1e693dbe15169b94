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
		Long: `Check files without a datastore: syntax, fields and values. Conditions on other objects, for example that a policy's tier
exists or that pools do not overlap, are checked only when the objects are written.

--calico also refuses objects that Margay accepts and Calico does not. Use it for a datastore that Calico's agents or calicoctl
use too.`,
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
	cmd.Flags().BoolVar(&calico, "calico", false, "also refuse objects that Calico does not accept or understand")
	return cmd
}

// calicoRefuses returns an error that names the fields of a valid object that Calico does not accept or understand.
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

// validate checks an object, and prints warnings about values that are probably mistakes. ends holds the default actions of
// the tiers in the same input.
func (s *session) validate(o api.Object, ends map[string]api.Action) error {
	if err := (scope{}).resolve(o); err != nil {
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

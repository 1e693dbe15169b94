package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
)

func newApply(s *session) *cobra.Command {
	var in input
	var at place
	var dryRun string
	v := verb{"apply", "applied"}
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or overwrite objects from files",
		Long: `Create or overwrite objects from files.

Every file is read and checked for syntax before anything is written. Objects are then written in order; after an error
the rest is still written, and the exit code is 1. Warnings about accepted objects go to standard error, and so does a line
for each object that is stored already as the file says: it is not written again.

--dry-run=server does all of that but the writing, and says of each object whether it would be created or updated.`,
		Example: `  margayctl apply -f docs/examples/block-crypto-mining.yaml
  margayctl apply -f docs/examples/ --dry-run=server
  margayctl apply -f docs/examples/
  margayctl get gnp -o yaml | sed 's/order: 500/order: 600/' | margayctl apply -f -`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, suffix := v, ""
			switch dryRun {
			case "none":
			case "server":
				s.rehearse()
				v.past, suffix = v.past+" (dry run)", " (dry run)"
			default:
				return fmt.Errorf("--dry-run=%s: want server or none", dryRun)
			}
			out, err := s.write(cmd.Context(), v, in, at, func(st store, o api.Object) error {
				done, err := s.apply(cmd.Context(), st, o)
				if err == nil && (done == unchanged || suffix != "") {
					fmt.Fprintf(s.stderr, "%s: %s%s\n", api.KeyOf(o), done, suffix)
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
	cmd.Flags().StringVar(&dryRun, "dry-run", "none", "server: check everything against the datastore and write nothing")
	return cmd
}

// What apply does to one object.
const (
	created   = "created"
	updated   = "updated"
	unchanged = "unchanged"
)

// apply creates an object, or updates it when it exists or may not be created.
func (s *session) apply(ctx context.Context, st store, o api.Object) (string, error) {
	given := *o.Meta()
	o.Meta().ResourceVersion = ""
	err := create(ctx, st, o)
	if !isExists(err) && !isUnsupported(err) {
		return created, err
	}
	*o.Meta() = given
	return s.update(ctx, st, o, skipEqual)
}

// rehearse replaces the datastore by a copy that exists only here: changes are checked and see each other, nothing is written.
func (s *session) rehearse() {
	open := s.open
	s.open = func(ctx context.Context, s *session) (store, func(), error) {
		st, closeStore, err := open(ctx, s)
		if err != nil {
			return nil, nil, err
		}
		return st.DryRun(), closeStore, nil
	}
}

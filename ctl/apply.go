package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
)

func newApply(s *session) *cobra.Command {
	var f writing
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or overwrite objects from files",
		Long: `Create or overwrite objects from files.

Every file is read and checked for syntax before anything is written. Objects are then written in order. After an error
the remaining objects are still written, and the exit code is 1. Warnings about accepted objects go to standard error. An
object that is stored already as the file says is not written again; a line on standard error says so.

--dry-run=server checks every object against the datastore and writes nothing. It says of each object whether it would be
created or updated.

` + atomicHelp + `

` + pruneHelp,
		Example: `  margayctl apply -f docs/examples/tiers.yaml
  margayctl apply -f policies/ --dry-run=server
  margayctl apply -f policies/ --atomic
  margayctl apply -f policies/ -R --prune -l "team == 'web'"
  margayctl get gnp -o yaml | sed 's/order: 500/order: 600/' | margayctl apply -f -`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j := job{verb: verb{"apply", "applied"}, act: s.apply, writes: true, tell: func(o api.Object, done string) string {
				if done != unchanged {
					return ""
				}
				return doneLine(o, done)
			}}
			return s.writeInput(cmd.Context(), j, f, s.report)
		},
	}
	f.addFlags(cmd)
	f.prune.addFlags(s, cmd)
	return cmd
}

// The outcomes of a verb for one object.
const (
	created   = "created"
	updated   = "updated"
	unchanged = "unchanged"
	deleted   = "deleted"
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

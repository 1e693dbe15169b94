package workload

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
)

// Output holds the flags that say whether to write, and how to print the outcome.
type Output struct{ dryRun, format string }

// AddFlags adds the flags to a command.
func (o *Output) AddFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.dryRun, "dry-run", "none", "none, or server: check everything against the datastore and write nothing")
	cmd.Flags().Lookup("dry-run").NoOptDefVal = "server"
	cmd.Flags().StringVarP(&o.format, "output", "o", "text", "text, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]string{"none", "server"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

// Check refuses values that the flags cannot have.
func (o Output) Check() error {
	switch {
	case o.dryRun != "none" && o.dryRun != "server":
		return fmt.Errorf("--dry-run=%s: want server or none", o.dryRun)
	case o.format != "text" && o.format != "json" && o.format != "yaml":
		return fmt.Errorf("unrecognized output format '%s': want text, json or yaml", o.format)
	}
	return nil
}

// Dry says whether nothing may be written.
func (o Output) Dry() bool { return o.dryRun == "server" }

// Caution prints what the endpoints of a change lack.
func (s Session) Caution(ctx context.Context, st Store, outcomes []Outcome) {
	var written []api.Object
	for _, o := range outcomes {
		if o.Done == removed {
			continue
		}
		written = append(written, o.Endpoint)
		if len(o.Endpoint.Spec.IPNetworks) == 0 {
			fmt.Fprintf(s.Stderr, "warning: %v: it has no address, so it is closed: give it one, or have IPAM choose one\n", api.KeyOf(o.Endpoint))
		}
	}
	s.Warn(ctx, st, written)
}

// Report prints the outcome of a change: as text, or the changed endpoints.
func (s Session) Report(outcomes []Outcome, out Output) error {
	var objects []api.Object
	for _, o := range outcomes {
		if out.format == "text" {
			fmt.Fprintln(s.Stdout, sentence(o, out.Dry()))
		}
		objects = append(objects, o.Endpoint)
	}
	if out.format == "text" {
		return nil
	}
	return s.printObjects(objects, out.format)
}

// sentence says what happened to an endpoint.
func sentence(o Outcome, dry bool) string {
	spec := o.Endpoint.Spec
	text := fmt.Sprintf("%v %s", api.KeyOf(o.Endpoint), o.Done)
	if dry {
		text += " (dry run)"
	}
	if o.Done == removed {
		if len(spec.IPNetworks) > 0 {
			text += ", and its addresses given back: " + strings.Join(spec.IPNetworks, ", ")
		}
		return text
	}
	text += ": interface " + spec.InterfaceName
	if len(spec.IPNetworks) > 0 {
		text += ", " + strings.Join(spec.IPNetworks, ", ")
	}
	return text
}

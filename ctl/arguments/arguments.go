// Package arguments says how many arguments a command of margayctl takes.
//
// Each function is for the field Args of a cobra.Command. Its error names the arguments that the command takes, and its help.
package arguments

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/hints"
)

// Exactly demands n arguments. The error calls them by names, for example "KIND NAME".
func Exactly(n int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return hints.With(fmt.Errorf("want %s, got %d arguments", names, len(args)), "see "+cmd.CommandPath()+" --help")
	}
}

// None is for a command that takes flags only.
func None(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return hints.With(fmt.Errorf("%s takes flags only, got %q", cmd.CommandPath(), args[0]), "see "+cmd.CommandPath()+" --help")
}

// NoSuchCommand is for a command that only holds other commands: any argument is an error, which suggests the nearest command.
func NoSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var verbs []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			verbs = append(verbs, c.Name())
		}
	}
	err := fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0])
	return hints.With(err, hints.DidYouMean(args[0], verbs), "see "+cmd.CommandPath()+" --help")
}

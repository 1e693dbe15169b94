package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
)

func newCompletion(s *session) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion {bash | zsh | fish}",
		Short: "Print a script that completes commands in a shell",
		Example: `  source <(margayctl completion bash)
  margayctl completion bash > /etc/bash_completion.d/margayctl
  margayctl completion fish > ~/.config/fish/completions/margayctl.fish`,
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return hints.With(errors.New("want one of bash, zsh, fish"), hints.DidYouMean(strings.Join(args, " "), shells))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "zsh":
				return root.GenZshCompletion(s.stdout)
			case "fish":
				return root.GenFishCompletion(s.stdout, true)
			}
			return root.GenBashCompletionV2(s.stdout, true)
		},
	}
}

// completeKind completes the first argument with kinds, and the next names arguments with names of objects.
func completeKind(s *session, names int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return kindWords(), cobra.ShellCompDirectiveNoFileComp
		}
		if len(args) > names {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return s.namesOf(cmd.Context(), args[0], args[1:]), cobra.ShellCompDirectiveNoFileComp
	}
}

// namesOf returns the names of a kind's objects, without the given ones. It returns none if the datastore does not answer
// within two seconds: a shell waits for them.
func (s *session) namesOf(ctx context.Context, kindName string, given []string) []string {
	kind, ok := api.KindOf(kindName)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return nil
	}
	defer closeStore()
	objects, _, err := st.List(ctx, kind.Name, "")
	if err != nil {
		return nil
	}
	var names []string
	for _, o := range objects {
		if name := o.Meta().Name; !slices.Contains(given, name) {
			names = append(names, name)
		}
	}
	return names
}

package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
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
				return fmt.Errorf("want one of bash, zsh, fish")
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

// completeKind completes the first argument with the kinds.
func completeKind(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return kindWords(), cobra.ShellCompDirectiveNoFileComp
}

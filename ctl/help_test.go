package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestEveryCommandHasAnExample(t *testing.T) {
	t.Parallel()
	root := newRoot(newSession(strings.NewReader(""), io.Discard, io.Discard, func(string) string { return "" }))
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Short == "" || !strings.Contains(cmd.Example, "margayctl") {
			t.Errorf("%s: no short text, or no example that can be pasted", cmd.CommandPath())
		}
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				visit(c)
			}
		}
	}
	visit(root)
}

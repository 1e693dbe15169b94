package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/margay-project/margay/ctl/arguments"
)

func newDocs(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "docs",
		Short: "Write the reference of kinds and commands, or manual pages",
		Long: `Write the reference of kinds and commands, or manual pages. Both are generated from this program itself: kinds and fields
from their types and validation, commands from their help.`,
		Example: `  margayctl docs man /usr/local/share/man/man1
  margayctl docs reference docs/reference`,
		Args: arguments.NoSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:     "reference DIRECTORY",
			Short:   "Write a page for each kind and each command, in Markdown",
			Example: `  margayctl docs reference docs/reference`,
			Args:    arguments.Exactly(1, "DIRECTORY"),
			RunE: func(cmd *cobra.Command, args []string) error {
				return writeReference(cmd.Root(), args[0])
			},
		},
		&cobra.Command{
			Use:   "man DIRECTORY",
			Short: "Write a manual page for each command",
			Long: `Write a manual page for each command, of section 1. Their date is today's, or that of the environment variable
SOURCE_DATE_EPOCH.`,
			Example: `  margayctl docs man /usr/local/share/man/man1
  man margayctl-apply`,
			Args: arguments.Exactly(1, "DIRECTORY"),
			RunE: func(cmd *cobra.Command, args []string) error {
				return writeManual(cmd.Root(), args[0])
			},
		},
	)
	return cmd
}

func writeManual(root *cobra.Command, directory string) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true // the header has the date already
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "Margay", Manual: "Margay manual"}, directory)
}

// writeReference replaces all pages in a directory, so that pages of removed commands disappear.
func writeReference(root *cobra.Command, directory string) error {
	kinds, commands := filepath.Join(directory, "kinds"), filepath.Join(directory, "commands")
	for _, d := range []string{kinds, commands} {
		if err := clearPages(d); err != nil {
			return err
		}
	}
	if err := writeKinds(kinds); err != nil {
		return err
	}
	root.DisableAutoGenTag = true // its date would change the pages every day
	return doc.GenMarkdownTree(root, commands)
}

// clearPages deletes the pages in a directory. It refuses a directory that holds anything else, because docs did not make it.
func clearPages(directory string) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || filepath.Ext(e.Name()) != ".md" {
			return fmt.Errorf("%s contains %s, which is not a Markdown page: name a directory that contains nothing else", directory, e.Name())
		}
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(directory, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

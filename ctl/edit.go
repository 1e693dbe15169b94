package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
)

func newEdit(s *session) *cobra.Command {
	var at scope
	cmd := &cobra.Command{
		Use:   "edit KIND NAME",
		Short: "Change one object in an editor",
		Long: `Change one object in an editor: that of $VISUAL, else $EDITOR, else vi.

The object is written when the editor ends, unless nothing was changed. If the datastore refuses it, or somebody else changed
the object meanwhile, nothing is written: the edited text stays in a file, which the error names.`,
		Example: `  margayctl edit gnp block-crypto-mining
  EDITOR=nano margayctl edit felixconfiguration default`,
		Args:              arguments.Exactly(2, "KIND NAME"),
		ValidArgsFunction: completeKind(s, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			objects, err := at.named(args[0], args[1:])
			if err != nil {
				return err
			}
			return s.edit(cmd.Context(), objects[0], at)
		},
	}
	addNamespaceFlag(cmd, &at)
	return cmd
}

func (s *session) edit(ctx context.Context, o api.Object, at scope) error {
	if err := at.resolve(o); err != nil {
		return err
	}
	if err := notWritable("edit", o); err != nil {
		return err
	}
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return err
	}
	defer closeStore()
	current, err := st.Get(ctx, api.KeyOf(o))
	if err != nil {
		return err
	}
	before, err := api.MarshalYAML(current)
	if err != nil {
		return err
	}
	file, after, err := s.edited(before)
	if err != nil {
		return err
	}
	if bytes.Equal(before, after) || len(bytes.TrimSpace(after)) == 0 { // an emptied file means no, as in git and kubectl
		fmt.Fprintf(s.stdout, "Nothing was changed in %s\n", api.KeyOf(o))
		return os.Remove(file)
	}
	if err := s.writeEdited(ctx, st, current, after); err != nil {
		next := "correct it"
		if isConflict(err) {
			next = "somebody else changed the object meanwhile: compare with margayctl diff -f " + file + ", remove resourceVersion from the file"
		}
		return hints.With(err, "your text is in "+file+": "+next+", then run margayctl replace -f "+file)
	}
	fmt.Fprintf(s.stdout, "Successfully replaced 1 '%s' resource(s)\n", o.Type().Kind)
	return os.Remove(file)
}

// writeEdited writes an edited object over the version that was read, or not at all.
func (s *session) writeEdited(ctx context.Context, st store, current api.Object, text []byte) error {
	objects, err := api.Decode(text)
	if err != nil {
		return undecodable(err)
	}
	if len(objects) != 1 || api.KeyOf(objects[0]) != api.KeyOf(current) {
		return fmt.Errorf("the text must contain only %s: use margayctl create for other objects", api.KeyOf(current))
	}
	changed := objects[0]
	changed.Meta().ResourceVersion = current.Meta().ResourceVersion
	if why := s.lockout(ctx, st, changed); why != "" {
		fmt.Fprint(s.stderr, warningLine(changed, why))
	}
	if _, err := s.update(ctx, st, changed, skipEqual); err != nil {
		return err
	}
	s.warn(ctx, st, changed)
	return nil
}

// edited writes a text to a temporary file and runs the editor on it. It returns the file's name and the edited text. The
// caller removes the file.
func (s *session) edited(text []byte) (string, []byte, error) {
	f, err := os.CreateTemp(s.getenv("TMPDIR"), "margayctl-edit-*.yaml")
	if err != nil {
		return "", nil, err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.runEditor(f.Name())
	}
	if err != nil {
		os.Remove(f.Name())
		return "", nil, err
	}
	after, err := os.ReadFile(f.Name())
	return f.Name(), after, err
}

func (s *session) runEditor(file string) error {
	editor := "vi"
	for _, name := range []string{"EDITOR", "VISUAL"} {
		if value := s.getenv(name); value != "" {
			editor = value
		}
	}
	// Run it through the shell, as git does: EDITOR may have arguments and quotes. The command has no context, so that an
	// interrupt goes to the editor and does not kill it.
	cmd := exec.Command("sh", "-c", editor+` "$1"`, "sh", file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.stdin, s.stdout.Writer, s.stderr // an editor needs the terminal itself
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("editor %s: %w: nothing was changed; set EDITOR to an installed editor", editor, err)
	}
	return nil
}

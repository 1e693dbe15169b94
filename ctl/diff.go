package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
)

// Exit codes of diff, which are those of the diff of every system.
const (
	exitDifferent = 1
	exitTrouble   = 2
)

// errDifferent is the answer that something would change; it has no text, the difference is on standard output.
var errDifferent = exitCode{errors.New(""), exitDifferent}

func newDiff(s *session) *cobra.Command {
	var in input
	var at place
	cmd := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change",
		Long: `Show what apply would change, as a unified diff of each object from what is stored to what would be.

Defaults count as written, identity and version of an object do not. The exit code is 0 when nothing would change, 1 when
something would, and 2 after any error. Nothing is written.`,
		Example: `  margayctl diff -f docs/examples/
  margayctl diff -f policies/ -R || margayctl apply -f policies/ -R`,
		Args:        noArguments,
		Annotations: map[string]string{exitAnnotation: strconv.Itoa(exitTrouble)},
		RunE: func(cmd *cobra.Command, _ []string) error {
			different, err := s.diff(cmd.Context(), in, at)
			if err == nil && different {
				return errDifferent
			}
			return err
		},
	}
	in.addFlags(cmd)
	addNamespaceFlag(cmd, &at)
	return cmd
}

// diff prints what apply would change, object by object, and goes on after an error.
func (s *session) diff(ctx context.Context, in input, at place) (different bool, err error) {
	s.rehearse()
	out, err := s.write(ctx, verb{"diff", "compared"}, in, at, func(st store, o api.Object) error {
		before, err := comparable(ctx, st, o)
		if err != nil {
			return err
		}
		if _, err := s.apply(ctx, st, o); err != nil {
			return err
		}
		after, err := comparable(ctx, st, o)
		if err != nil {
			return err
		}
		name := api.KeyOf(o).String()
		text := diff.Diff("stored "+name, before, "applied "+name, after)
		if len(text) > 0 {
			different = true
			_, text, _ = bytes.Cut(text, []byte("\n")) // the command line of a diff that nobody ran
		}
		_, err = s.stdout.Write(text)
		return err
	})
	if err != nil {
		return false, err
	}
	switch {
	case out.total == 0:
		fmt.Fprintln(s.stdout, "No resources specified")
	case len(out.errs) == 1:
		err = out.errs[0]
	case len(out.errs) > 1:
		err = fmt.Errorf("hit error: %v", out.errs)
	}
	return different, err
}

// comparable is the YAML of a stored object without what changes with every write; empty when there is none.
func comparable(ctx context.Context, st store, o api.Object) ([]byte, error) {
	key := api.KeyOf(o)
	stored, err := st.Get(ctx, key)
	if isNotFound(err) {
		return nil, nil
	}
	if unreadable, ok := asUnreadable(err); ok {
		return []byte("# " + unreadable.Error() + "\n"), nil
	}
	if err != nil {
		return nil, err
	}
	r := result{kind: key.Kind, objects: []api.Object{stored}}
	r.strip()
	stored.Meta().Namespace = key.Namespace
	return marshalYAML(stored)
}

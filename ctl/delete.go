package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
)

func newDelete(s *session) *cobra.Command {
	var in input
	var at place
	var skipMissing bool
	cmd := &cobra.Command{
		Use:   "delete {KIND NAME... | -f FILE}",
		Short: "Delete objects by kind and name, or those in files",
		Example: `  margayctl delete gnp block-crypto-mining
  margayctl delete -f docs/examples/ --skip-not-exists`,
		ValidArgsFunction: completeKind(s, math.MaxInt),
		RunE: func(cmd *cobra.Command, args []string) error {
			objects, err := s.objectsToDelete(in, at, args)
			if err != nil {
				return err
			}
			if len(objects) == 0 {
				return s.report(verb{"delete", "deleted"}, outcome{})
			}
			return s.delete(cmd.Context(), objects, at, skipMissing)
		},
	}
	in.addFlags(cmd)
	addNamespaceFlag(cmd, &at)
	cmd.Flags().BoolVarP(&skipMissing, "skip-not-exists", "s", false, "no error for objects that do not exist")
	return cmd
}

func (s *session) objectsToDelete(in input, at place, args []string) ([]api.Object, error) {
	if len(in.files) > 0 {
		if len(args) > 0 {
			return nil, errors.New("give either KIND and NAME or -f FILE, not both")
		}
		return s.load(in)
	}
	switch len(args) {
	case 0:
		return nil, errors.New("say which objects: KIND NAME, or -f FILE")
	case 1:
		if _, ok := api.KindOf(args[0]); !ok {
			return nil, unknownKind(args[0])
		}
		return nil, errors.New("resource name may not be empty")
	}
	return at.named(args[0], args[1:])
}

func (s *session) delete(ctx context.Context, objects []api.Object, at place, skipMissing bool) error {
	baseLast(objects)
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return err
	}
	defer closeStore()
	out := newOutcome(objects)
	each(&out, objects, at, func(o api.Object) error {
		if err := notWritable("delete", o); err != nil {
			return err
		}
		nameWorkloadEndpoint(o)
		_, err := st.Delete(ctx, api.KeyOf(o), o.Meta().ResourceVersion)
		if skipMissing && isNotFound(err) {
			return nil
		}
		return err
	})
	return s.reportDelete(out)
}

// reportDelete tells what was deleted before it tells what was not.
func (s *session) reportDelete(out outcome) error {
	if out.handled > 0 {
		fmt.Fprintf(s.stdout, "Successfully deleted %d %sresource(s)\n", out.handled, out.ofKind())
	}
	if len(out.errs) == 0 {
		return nil
	}
	var lines []string
	for _, err := range out.errs {
		lines = append(lines, fmt.Sprintf("Failed to delete %sresource: %v", out.ofKind(), err))
	}
	return errors.New(strings.Join(lines, "\n"))
}

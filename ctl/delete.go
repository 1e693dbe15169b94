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
	var f writing
	var skipMissing bool
	cmd := &cobra.Command{
		Use:   "delete {KIND NAME... | -f FILE}",
		Short: "Delete objects by kind and name, or those in files",
		Long: `Delete objects by kind and name, or those in files.

Deleting a Node also deletes its endpoints and releases their addresses. Without an IP pool, routes to its addresses are no
longer announced. Without a profile, the endpoints that name it are denied everything that no policy decides. Before
anything is deleted, standard error says how many endpoints and addresses are affected; --dry-run=server prints only that.
At a terminal margayctl then asks whether to go on; in a script it goes on.

` + atomicHelp + ` With --atomic, disable an IP pool before deleting it.`,
		Example: `  margayctl delete gnp block-crypto-mining
  margayctl delete -f policies/ --skip-not-exists`,
		ValidArgsFunction: completeKind(s, math.MaxInt),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(s); err != nil {
				return err
			}
			objects, err := s.objectsToDelete(f.in, f.at, args)
			if err != nil {
				return err
			}
			baseLast(objects)
			j := job{verb: verb{"delete", "deleted"}, act: deleteObject, asks: true}
			if skipMissing {
				j.act, j.skips = deleteIfThere, "objects did not exist"
			}
			return s.writeObjects(cmd.Context(), j, f, objects, s.reportDelete)
		},
	}
	f.addFlags(cmd)
	cmd.Flags().BoolVarP(&skipMissing, "skip-not-exists", "s", false, "accept objects that do not exist")
	return cmd
}

func (s *session) objectsToDelete(in input, at scope, args []string) ([]api.Object, error) {
	if len(in.files) > 0 {
		if len(args) > 0 {
			return nil, errors.New("give either KIND and NAME or -f FILE, not both")
		}
		return s.load(in)
	}
	switch len(args) {
	case 0:
		return nil, errors.New("no objects are named: give KIND NAME, or -f FILE")
	case 1:
		if _, ok := api.KindOf(args[0]); !ok {
			return nil, unknownKind(args[0])
		}
		return nil, errors.New("resource name may not be empty")
	}
	return at.named(args[0], args[1:])
}

// deleteObject deletes an object. If the object has a resourceVersion, it deletes only that version.
func deleteObject(ctx context.Context, st store, o api.Object) (string, error) {
	_, err := st.Delete(ctx, api.KeyOf(o), o.Meta().ResourceVersion)
	return deleted, err
}

func deleteIfThere(ctx context.Context, st store, o api.Object) (string, error) {
	done, err := deleteObject(ctx, st, o)
	if isNotFound(err) {
		return unchanged, nil
	}
	return done, err
}

// reportDelete prints how many objects were deleted, and returns the failures as one error.
func (s *session) reportDelete(v verb, out outcome) error {
	if out.total == 0 || out.interrupted {
		return s.report(v, out)
	}
	if out.handled > 0 || len(out.errs) == 0 {
		fmt.Fprintf(s.stdout, "Successfully %s %d %sresource(s)\n", v.past, out.handled, out.ofKind())
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

package main

import (
	"fmt"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
)

// outcome is how a verb fared over a list of objects. The sentences made of it are calicoctl's.
type outcome struct {
	total       int
	handled     int    // counted as done
	attempted   int    // failed after it was tried; the others were refused before
	kind        string // of all objects, empty when they differ
	errs        []error
	interrupted bool // the rest was not begun
}

// fail counts an object that failed.
func (out *outcome) fail(r fate) {
	out.errs = append(out.errs, r.err)
	if r.acted {
		out.attempted++
	}
}

// lost says whether the last failure was that of a datastore that does not answer.
func (out *outcome) lost() bool {
	return len(out.errs) > 0 && datastore.Unreachable(out.errs[len(out.errs)-1])
}

func newOutcome(objects []api.Object) outcome {
	out := outcome{total: len(objects)}
	for i, o := range objects {
		switch kind := o.Type().Kind; {
		case i == 0:
			out.kind = kind
		case out.kind != kind:
			out.kind = ""
		}
	}
	return out
}

// ofKind is the kind in quotes and a space, or nothing when kinds differ.
func (out outcome) ofKind() string {
	if out.kind == "" {
		return ""
	}
	return "'" + out.kind + "' "
}

// report prints how create, apply or validate fared, and returns what failed.
func (s *session) report(v verb, out outcome) error {
	switch {
	case out.total == 0:
		fmt.Fprintln(s.stdout, "No resources specified")
		return nil
	case out.interrupted:
		if out.handled > 0 {
			s.reportPart(v, out)
		}
		return withHints(interruption(out), "the others were not touched: give the same command again to go on")
	case out.handled == 0:
		return v.failedAltogether(out, out.errs)
	case len(out.errs) == 0:
		fmt.Fprintf(s.stdout, "Successfully %s %d %sresource(s)\n", v.past, out.handled, out.ofKind())
		return nil
	case out.handled > len(out.errs):
		s.reportPart(v, out)
	}
	return fmt.Errorf("hit error: %v", out.errs)
}

// reportReplace differs from report: a failed object counts as handled, and only the last error is told.
func (s *session) reportReplace(v verb, out outcome) error {
	if len(out.errs) == 0 || out.interrupted {
		return s.report(v, out)
	}
	out.handled += out.attempted
	last := out.errs[len(out.errs)-1]
	if out.handled == 0 {
		return v.failedAltogether(out, last)
	}
	s.reportPart(v, out)
	return fmt.Errorf("hit error: %w", last)
}

// interruption says how far the work was when it was stopped.
func interruption(out outcome) error {
	failed := ""
	if len(out.errs) > 0 {
		failed = fmt.Sprintf(", hit error: %v", out.errs)
	}
	return fmt.Errorf("interrupted after %d of %d %sresources%s", out.handled+len(out.errs), out.total, out.ofKind(), failed)
}

func (s *session) reportPart(v verb, out outcome) {
	fmt.Fprintf(s.stdout, "Partial success: %s the first %d out of %d %sresources:\n", v.past, out.handled, out.total, out.ofKind())
}

func (v verb) failedAltogether(out outcome, cause any) error {
	if out.total == 1 {
		return fmt.Errorf("failed to %s %sresource: %v", v.name, out.ofKind(), cause)
	}
	return fmt.Errorf("failed to %s any %sresources: %v", v.name, out.ofKind(), cause)
}

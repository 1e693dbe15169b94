package main

import (
	"fmt"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/datastore/etcd"
)

// outcome is how a verb fared over a list of objects. The sentences made of it are calicoctl's.
type outcome struct {
	total       int
	handled     int    // done
	skipped     int    // left alone on demand
	kind        string // of all objects, empty when they differ
	errs        []error
	interrupted bool // the rest was not begun
}

// lost says whether the last failure was that of a datastore that does not answer.
func (out *outcome) lost() bool {
	return len(out.errs) > 0 && etcd.Unreachable(out.errs[len(out.errs)-1])
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

// report prints how create, apply, replace or validate fared, and returns what failed.
func (s *session) report(v verb, out outcome) error {
	switch {
	case out.total == 0:
		fmt.Fprintln(s.stdout, "No resources specified")
		return nil
	case out.interrupted:
		if out.handled > 0 {
			s.reportPart(v, out)
		}
		return hints.With(interruption(out), "the others were not touched: give the same command again to go on")
	case len(out.errs) > 0 && out.handled == 0:
		return v.failedAltogether(out)
	case len(out.errs) == 0:
		fmt.Fprintf(s.stdout, "Successfully %s %d %sresource(s)\n", v.past, out.handled, out.ofKind())
		return nil
	case out.handled > len(out.errs):
		s.reportPart(v, out)
	}
	return fmt.Errorf("hit error:%s", listed(out.errs))
}

// interruption says how far the work was when it was stopped.
func interruption(out outcome) error {
	failed := ""
	if len(out.errs) > 0 {
		failed = ", hit error:" + listed(out.errs)
	}
	return fmt.Errorf("interrupted after %d of %d %sresources%s", out.handled+out.skipped+len(out.errs), out.total, out.ofKind(), failed)
}

func (s *session) reportPart(v verb, out outcome) {
	fmt.Fprintf(s.stdout, "Partial success: %s the first %d out of %d %sresources:\n", v.past, out.handled, out.total, out.ofKind())
}

func (v verb) failedAltogether(out outcome) error {
	if out.total == 1 {
		return fmt.Errorf("failed to %s %sresource:%s", v.name, out.ofKind(), listed(out.errs))
	}
	return fmt.Errorf("failed to %s any %sresources:%s", v.name, out.ofKind(), listed(out.errs))
}

// listed is what follows a colon: one error in the brackets that calicoctl puts around it, or each of several on its own line.
func listed(errs []error) string {
	if len(errs) == 1 {
		return fmt.Sprintf(" [%v]", errs[0])
	}
	var text strings.Builder
	for _, err := range errs {
		text.WriteString("\n- " + strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return text.String()
}

package main

import (
	"fmt"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/datastore/etcd"
)

// outcome counts what a verb did to a list of objects. It is reported in calicoctl's sentences.
type outcome struct {
	total       int
	handled     int    // done
	skipped     int    // left alone because of a flag, such as --skip-exists
	kind        string // of all objects; empty if their kinds differ
	errs        []error
	interrupted bool // the remaining objects were not touched
}

// lost says whether the last failure was a datastore that does not answer.
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

// ofKind returns the kind in quotes and a space; empty if the kinds differ.
func (out outcome) ofKind() string {
	if out.kind == "" {
		return ""
	}
	return "'" + out.kind + "' "
}

// report prints the outcome of create, apply, replace or validate, and returns its failures as one error.
func (s *session) report(v verb, out outcome) error {
	switch {
	case out.total == 0:
		fmt.Fprintln(s.stdout, "No resources specified")
		return nil
	case out.interrupted:
		if out.handled > 0 {
			s.reportPart(v, out)
		}
		return hints.With(interruption(out), "the other objects were not touched: run the same command again to continue")
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

// interruption returns the error of an interrupted verb, with the number of objects that it had worked on.
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

// listed formats errors to follow a colon: a single one in brackets, as in calicoctl, or each of several on a line of its own.
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

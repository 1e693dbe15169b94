package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/api/selector"
	"github.com/margay-project/margay/ctl/hints"
)

// chooser chooses objects of a list by their labels; without a selector, all of them.
type chooser struct{ selector *selector.Selector }

func (c chooser) takes(o api.Object) bool {
	return c.selector == nil || c.selector.Matches(labelsOf(o.Meta().Labels))
}

func (c chooser) choose(objects []api.Object) []api.Object {
	return slices.DeleteFunc(objects, func(o api.Object) bool { return !c.takes(o) })
}

type labelsOf map[string]string

func (l labelsOf) Get(name string) (string, bool) {
	value, ok := l[name]
	return value, ok
}

func (s *session) addSelectorFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.selector, "selector", "", "only objects whose labels match, for example role == 'web'; -l is the same")
}

func (s *session) chooser() (chooser, error) {
	if s.selector == "" {
		return chooser{}, nil
	}
	parsed, err := selector.Parse(s.selector)
	if err != nil {
		hint := ""
		if label, value, ok := strings.Cut(s.selector, "="); ok && !strings.ContainsAny(s.selector, "!'\" ") {
			hint = "did you mean " + label + " == '" + value + "'?"
		}
		return chooser{}, hints.With(err, hint)
	}
	return chooser{parsed}, nil
}

// levelOrSelector is the value of -l: calicoctl's log level, or a selector for the verbs that choose objects. Every level is a
// single word, and no selector is.
type levelOrSelector struct{ s *session }

func (v levelOrSelector) String() string { return "panic" }
func (v levelOrSelector) Type() string   { return "string" }

func (v levelOrSelector) Set(text string) error {
	isWord := !strings.ContainsFunc(text, func(r rune) bool { return r < 'A' || r > 'z' })
	if text == "" || isWord {
		v.s.logLevel = text
	} else {
		v.s.selector = text
	}
	return nil
}

// checkSelector refuses a selector for a verb without --selector: its -l is the log level.
func (s *session) checkSelector(cmd *cobra.Command) error {
	if s.selector != "" && cmd.Flags().Lookup("selector") == nil {
		return badLevel(s.selector)
	}
	return nil
}

var errSelectorAndNames = errors.New("a selector chooses from a list of objects: give KIND alone, without NAME and -f FILE")

package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/margay-project/margay/api"
)

// trap is a warning about an object that does not fit the other objects of the datastore.
type trap struct {
	about api.Key
	text  string
}

// tellTraps prints the warnings about written objects. It is called once, after the last of them: the profile that an endpoint
// lacks may come later in the same input.
func (s *session) tellTraps(ctx context.Context, st store, written []api.Object) {
	if ctx.Err() != nil {
		return
	}
	v := newView(st, written)
	v.traps(ctx)
	for _, line := range trapLines(v.found) {
		fmt.Fprint(s.stderr, line)
	}
}

// trapLines returns one line for each text, with the first object that it is about and the number of the others.
func trapLines(found []trap) (lines []string) {
	var texts []string
	about := map[string][]api.Key{}
	for _, t := range found {
		if about[t.text] == nil {
			texts = append(texts, t.text)
		}
		about[t.text] = append(about[t.text], t.about)
	}
	for _, text := range texts {
		more := ""
		if n := len(about[text]) - 1; n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		lines = append(lines, fmt.Sprintf("warning: %v%s: %s\n", about[text][0], more, text))
	}
	return lines
}

func (v *view) add(o api.Object, format string, args ...any) {
	v.found = append(v.found, trap{api.KeyOf(o), fmt.Sprintf(format, args...)})
}

// traps finds the traps. A check gives no warning if the objects that it needs cannot be read, or are too many.
func (v *view) traps(ctx context.Context) {
	v.nodes(ctx)
	v.nodeSelectors(ctx)
	v.profiles(ctx)
	v.doubles(ctx)
	v.closed(ctx)
	v.defaultDeny(ctx)
	v.onlyOfHosts(ctx)
	v.unaddressed(ctx)
	v.unreached(ctx)
}

func isEndpoint(o api.Object) bool { return slices.Contains(endpointKinds, o.Type().Kind) }

func keyTexts(keys []api.Key) (texts []string) {
	for _, k := range keys {
		texts = append(texts, k.String())
	}
	return texts
}

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// calicoNodes are the nodes of the datastore that Calico's agent is on, or why they are not known.
type calicoNodes struct {
	names []string
	err   error
}

// calicoWarnings says what of an accepted object the agents and tools of Calico make something else of, where the datastore
// has any. The datastore is asked once, and only when an object has something of the kind.
func (w *worker) calicoWarnings(ctx context.Context, o api.Object) (warnings []string) {
	for _, r := range api.Relaxations() {
		found := r.Found(o)
		if len(found) == 0 {
			continue
		}
		if w.calico == nil {
			names, err := w.st.CalicoNodes(ctx)
			w.calico = &calicoNodes{names, err}
		}
		if text := w.calico.warning(r, found); text != "" {
			warnings = append(warnings, text)
		}
	}
	return warnings
}

func (c *calicoNodes) warning(r api.Relaxation, found []string) string {
	switch {
	case c.err != nil:
		return fmt.Sprintf("%s; whether Calico's agents use this datastore is not known (%v). %s", strings.Join(found, "; "), c.err, r.Effect)
	case len(c.names) == 0:
		return ""
	}
	return fmt.Sprintf("%s. Node %s has Calico's agent: %s", strings.Join(found, "; "), few(c.names), r.Effect)
}

// few is a list of names for a sentence.
func few(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(slices.Clone(names[:most]), ", "), len(names)-most)
}

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// calicoNodes holds the names of the nodes that run Calico's agent, or the error of reading them.
type calicoNodes struct {
	names []string
	err   error
}

// calicoWarnings warns of fields of an accepted object that Calico's agents and tools treat differently, if nodes of this
// datastore run Calico's agent. The nodes are read once, when the first such field is found.
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
		return fmt.Sprintf("%s; it is not known whether Calico's agents use this datastore (%v). %s", strings.Join(found, "; "), c.err, r.Effect)
	case len(c.names) == 0:
		return ""
	}
	return fmt.Sprintf("%s. Calico's agent runs on node %s: %s", strings.Join(found, "; "), few(c.names), r.Effect)
}

// few joins at most three names for a sentence, and counts the others.
func few(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(slices.Clone(names[:most]), ", "), len(names)-most)
}

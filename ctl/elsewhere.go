package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// sayElsewhere says on standard error that a namespace has no objects of a kind while other namespaces have some. An empty
// table alone looks as if there were none at all. It stops at the first page with such objects, and ignores errors.
func (s *session) sayElsewhere(ctx context.Context, st store, key api.Key, chosen chooser) {
	if key.Namespace == "" {
		return
	}
	namespaces, enough := map[string]bool{}, errors.New("enough is known")
	_ = st.EachPage(ctx, key.Kind, "", func(objects []api.Object, _ string) error {
		for _, o := range chosen.choose(objects) {
			namespaces[o.Meta().Namespace] = true
		}
		if len(namespaces) > 0 {
			return enough
		}
		return nil
	})
	fmt.Fprint(s.stderr, elsewhere(key, namespaces))
}

// elsewhere returns the line about an empty list, with the namespaces that have objects of the kind; empty if none has.
func elsewhere(key api.Key, namespaces map[string]bool) string {
	const most = 3
	delete(namespaces, key.Namespace)
	names := slices.Sorted(maps.Keys(namespaces))
	if len(names) == 0 {
		return ""
	}
	more := ""
	if len(names) > most {
		names, more = names[:most], " and others"
	}
	return fmt.Sprintf("namespace %s has no %s; there are some in %s%s: use -n NAMESPACE, or -A for all namespaces\n",
		key.Namespace, key.Kind, strings.Join(names, ", "), more)
}

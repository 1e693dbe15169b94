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

// sayElsewhere tells on standard error that a namespace has no objects of a kind while others have some: an empty table
// looks as if there were none at all. It reads no more than the first page, and nothing is lost when that fails.
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

// elsewhere is the sentence about a list that is empty while namespaces have objects of the kind.
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
	return fmt.Sprintf("namespace %s has no %s; there are some in %s%s: use -n NAMESPACE, or -A for all\n",
		key.Namespace, key.Kind, strings.Join(names, ", "), more)
}

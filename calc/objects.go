package calc

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// objects holds the last update of each object that exists, by kind and key.
type objects map[string]map[api.Key]api.Update

// put keeps an update. A deletion removes the object.
func (o objects) put(u api.Update) {
	if u.Object == nil && u.Invalid == "" {
		delete(o[u.Key.Kind], u.Key)
		return
	}
	if o[u.Key.Kind] == nil {
		o[u.Key.Kind] = map[api.Key]api.Update{}
	}
	o[u.Key.Kind][u.Key] = u
}

// of lists the objects of some kinds in order of their keys.
func (o objects) of(kinds ...string) (all []api.Update) {
	for _, kind := range kinds {
		all = slices.AppendSeq(all, maps.Values(o[kind]))
	}
	slices.SortFunc(all, func(a, b api.Update) int { return compareKeys(a.Key, b.Key) })
	return all
}

func compareKeys(a, b api.Key) int {
	return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), strings.Compare(a.Namespace, b.Namespace))
}

// has reports whether an object exists, valid or not.
func (o objects) has(key api.Key) bool {
	_, there := o[key.Kind][key]
	return there
}

// valid lists the valid objects of a kind, in order of their keys. T is the kind's Go type.
func valid[T any](o objects, kind string) (all []*T, keys []api.Key) {
	for _, u := range o.of(kind) {
		if object, ok := any(u.Object).(*T); ok && u.Invalid == "" {
			all, keys = append(all, object), append(keys, u.Key)
		}
	}
	return all, keys
}

// named is one valid object, or nil.
func named[T any](o objects, kind, name string) *T {
	u := o[kind][api.Key{Kind: kind, Name: name}]
	if object, ok := any(u.Object).(*T); ok && u.Invalid == "" {
		return object
	}
	return nil
}

// invalidText is the problem of an invalid object that is ignored. Policies, profiles and endpoints are not: they deny or are closed, and
// their readers say so.
func invalidText(u api.Update) string {
	switch u.Key.Kind {
	case api.KindGlobalNetworkPolicy, api.KindNetworkPolicy, api.KindProfile, api.KindWorkloadEndpoint, api.KindHostEndpoint:
		return "" // their readers say so
	}
	if u.Invalid == "" {
		return ""
	}
	if foreign, yes := api.ForeignKindOf(u.Key.Kind); yes {
		return fmt.Sprintf("kind %s is not supported yet, so it is not in force: use another kind, or remove it", foreign.Name)
	}
	return invalid(u.Invalid, "it is ignored")
}

func (id PolicyID) key() api.Key {
	return api.Key{Kind: id.Kind, Namespace: id.Namespace, Name: id.Name}
}

func (id EndpointID) key() api.Key {
	return api.Key{Kind: id.Kind, Namespace: id.Namespace, Name: id.Name}
}

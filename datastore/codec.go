package datastore

import (
	"encoding/json"
	"maps"
	"reflect"
	"strconv"
	"strings"

	"github.com/margay-project/margay/api"
)

const (
	nameAnnotation = "projectcalico.org/metadata" // {"name": …}: a policy's name, whatever its key says
	tierLabel      = api.TierLabel
	defaultTier    = api.DefaultTier
)

// decode reads a stored value as users see it. With an error the object is what could be read, or nil.
// The key is that of the entry's own segments; the object's name may differ from it (see policyName).
func decode(key api.Key, entry Entry) (api.Object, error) {
	value := entry.Value
	if key.Kind == api.KindBlockAffinity && len(value) == 0 {
		value = []byte("{}") // written by very old versions; such an affinity is not confirmed
	}
	o, err := api.DecodeStored(key.Kind, value)
	if missing(o) {
		return nil, err
	}
	meta := o.Meta()
	meta.Namespace, meta.Name = key.Namespace, key.Name
	meta.ResourceVersion = strconv.FormatInt(entry.Revision, 10)
	if tier, ok := tierOf(o); ok {
		meta.Name = policyName(meta, tier, key.Name)
		delete(meta.Annotations, nameAnnotation)
		if _, labelled := meta.Labels[tierLabel]; !labelled {
			meta.Labels = with(meta.Labels, tierLabel, orDefault(tier))
		}
	}
	if pool, ok := o.(*api.IPPool); ok && err == nil {
		api.Default(pool)
	}
	return o, err
}

// encode is the stored form of an object.
func encode(o api.Object) ([]byte, error) {
	o = shallow(o)
	meta := o.Meta()
	meta.ResourceVersion, meta.SelfLink = "", ""
	if tier, ok := tierOf(o); ok {
		name, err := json.Marshal(map[string]string{"name": meta.Name})
		if err != nil {
			return nil, err
		}
		meta.Annotations = with(meta.Annotations, nameAnnotation, string(name))
		meta.Labels = with(meta.Labels, tierLabel, orDefault(tier))
	}
	return api.Encode(o)
}

// tierOf is the tier that a policy names; false for what is not a policy.
func tierOf(o api.Object) (string, bool) {
	spec, _, ok := api.PolicyOf(o)
	return spec.Tier, ok
}

// inTier says that objects of a kind are policies in a tier.
func inTier(kind string) bool {
	o, _ := api.New(kind)
	_, _, ok := api.PolicyOf(o)
	return ok
}

func orDefault(tier string) string {
	if tier == "" {
		return defaultTier
	}
	return tier
}

// policyName is a policy's name: what its annotation says; else, for the default tier, the key's name without the prefix
// that old versions put there; else the key's.
func policyName(meta *api.Metadata, tier, keyName string) string {
	var named struct{ Name string }
	if text, ok := meta.Annotations[nameAnnotation]; ok && json.Unmarshal([]byte(text), &named) == nil && named.Name != "" {
		return named.Name
	}
	if orDefault(tier) == defaultTier {
		return strings.TrimPrefix(keyName, legacyNameStart)
	}
	return keyName
}

// shallow is a copy whose metadata and top-level fields can be changed without changing the original.
func shallow(o api.Object) api.Object {
	original := reflect.ValueOf(o).Elem()
	copied := reflect.New(original.Type())
	copied.Elem().Set(original)
	out := copied.Interface().(api.Object)
	out.Meta().Labels = maps.Clone(o.Meta().Labels)
	out.Meta().Annotations = maps.Clone(o.Meta().Annotations)
	return out
}

func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		return map[string]string{key: value}
	}
	m[key] = value
	return m
}

// missing says whether there is no object, be it that the interface holds a nil pointer.
func missing(o api.Object) bool {
	return o == nil || reflect.ValueOf(o).IsNil()
}

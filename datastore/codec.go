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
	nameAnnotation = "projectcalico.org/metadata" // {"name": …}: the name of a policy, which its key may not have
	tierLabel      = api.TierLabel
	defaultTier    = api.DefaultTier
)

// decode turns a stored value into the object that users see. key comes from the segments of the entry's key; the object's name may
// differ from it (see policyName). With an error, the object holds the fields that could be read, or is nil.
func decode(key api.Key, entry Entry) (api.Object, error) {
	value := entry.Value
	if key.Kind == api.KindBlockAffinity && len(value) == 0 {
		value = []byte("{}") // very old versions wrote no value; such an affinity is not confirmed
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

// encode returns the stored form of an object. The object does not change.
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

// tierOf returns the tier that a policy names; false if o is not a policy in a tier.
func tierOf(o api.Object) (string, bool) {
	spec, _, ok := api.PolicyOf(o)
	return spec.Tier, ok
}

// inTier says whether objects of a kind are policies in a tier.
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

// policyName returns the name of a policy. It comes from the annotation. Without one, it is the name in the key; for a policy of the
// default tier, without the prefix that versions up to v3.29 added.
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

// shallow returns a copy. The caller may change its metadata and top-level fields without changing the original.
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

// missing says whether there is no object: the interface, or the pointer in it, is nil.
func missing(o api.Object) bool {
	return o == nil || reflect.ValueOf(o).IsNil()
}

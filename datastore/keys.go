package datastore

import (
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

// The keys, exactly as an existing Calico datastore has them.
const (
	rootKey         = kv.Root
	resourceRoot    = "/calico/resources/v3/projectcalico.org/"
	legacyNameStart = "default." // in front of the names of the default tier's policies until v3.29
)

// resourceKinds are the kinds in the tree of resources by their plural, those that this version does not have included.
var resourceKinds = func() map[string]resourceKind {
	kinds := map[string]resourceKind{}
	for _, k := range api.ForeignKinds() {
		kinds[k.Plural] = resourceKind{Kind: k}
	}
	for _, k := range api.Kinds() {
		kinds[k.Plural] = resourceKind{Kind: k, known: true}
	}
	return kinds
}()

// knownKinds are the kinds in the tree of resources that this version has, by name.
var knownKinds = func() map[string]api.Kind {
	kinds := map[string]api.Kind{}
	for _, k := range api.Kinds() {
		kinds[k.Name] = k
	}
	return kinds
}()

type resourceKind struct {
	api.Kind
	known bool
}

// ResourceKey is the key in etcd under which an object of a known kind, an IPAM block or a block affinity is stored; empty
// for other kinds.
func ResourceKey(key api.Key) string {
	if key.Kind == api.KindIPAMBlock || key.Kind == api.KindBlockAffinity {
		cidr, ok := ipam.ParseBlockName(key.Name)
		switch {
		case !ok:
			return ""
		case key.Kind == api.KindIPAMBlock:
			return ipam.BlockKey(cidr)
		}
		return ipam.AffinityKey(key.Namespace, cidr)
	}
	kind, ok := knownKinds[key.Kind]
	if !ok {
		return ""
	}
	return kindPrefix(kind, key.Namespace) + key.Name
}

// kindPrefix is what the keys of a kind, or of a kind's objects of one namespace, begin with.
func kindPrefix(kind api.Kind, namespace string) string {
	if kind.Namespaced && namespace != "" {
		return resourceRoot + kind.Plural + "/" + namespace + "/"
	}
	return resourceRoot + kind.Plural + "/"
}

// parseKey says what is stored under a key: the object's key by the key's own segments, and whether the kind is one that
// this version reads. False for keys that hold no object.
func parseKey(text string) (key api.Key, known, ok bool) {
	if rest, found := strings.CutPrefix(text, resourceRoot); found {
		return parseResourceKey(rest)
	}
	if cidr, found := ipam.ParseBlockKey(text); found {
		return api.Key{Kind: api.KindIPAMBlock, Name: ipam.BlockName(cidr)}, true, true
	}
	if node, cidr, found := ipam.ParseAffinityKey(text); found {
		return api.Key{Kind: api.KindBlockAffinity, Namespace: node, Name: ipam.BlockName(cidr)}, true, true
	}
	return key, false, false
}

func parseResourceKey(rest string) (key api.Key, known, ok bool) {
	plural, name, found := strings.Cut(rest, "/")
	if !found {
		return key, false, false
	}
	kind, listed := resourceKinds[plural]
	key.Kind = plural
	if listed {
		key.Kind = kind.Name
	}
	namespace, inner, namespaced := strings.Cut(name, "/")
	if namespaced {
		name = inner
		key.Namespace = unescape(namespace)
	}
	key.Name = unescape(name)
	switch {
	case name == "" || strings.Contains(name, "/") || namespaced && namespace == "":
		return key, false, false
	case listed && namespaced != kind.Namespaced:
		return key, false, false
	}
	return key, kind.known, true
}

// unescape undoes what some writers did to a segment.
func unescape(segment string) string {
	if !strings.Contains(segment, "%") {
		return segment
	}
	return strings.NewReplacer("%2f", "/", "%2F", "/", "%25", "%").Replace(segment)
}

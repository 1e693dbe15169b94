package datastore

import (
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

// The keys of a Calico datastore.
const (
	rootKey         = kv.Root
	resourceRoot    = "/calico/resources/v3/projectcalico.org/"
	legacyNameStart = "default." // prefix of the names of policies of the default tier in keys written by Calico up to v3.29
)

// resourceKinds holds the kinds in the tree of resources by plural, including those that this version does not know.
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

// knownKinds holds the kinds in the tree of resources that this version knows, by name.
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

// ResourceKey returns the key in etcd of an object of a known kind, of an IPAM block or of a block affinity; empty for other kinds.
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

// kindPrefix returns the prefix of the keys of a kind, or of its objects in one namespace.
func kindPrefix(kind api.Kind, namespace string) string {
	if kind.Namespaced && namespace != "" {
		return resourceRoot + kind.Plural + "/" + namespace + "/"
	}
	return resourceRoot + kind.Plural + "/"
}

// parseKey returns the key of the object that is stored under a key of etcd, made from the segments of that key. known says whether
// this version knows the kind. ok is false for keys that hold no object.
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

// unescape decodes the slashes and percent signs that some writers escape in a segment.
func unescape(segment string) string {
	if !strings.Contains(segment, "%") {
		return segment
	}
	return strings.NewReplacer("%2f", "/", "%2F", "/", "%25", "%").Replace(segment)
}

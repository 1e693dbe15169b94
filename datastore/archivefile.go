package datastore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
)

// The file of an archive has the format of calicoctl datastore migrate export: documents of the kinds that calicoctl exports, the
// ClusterInformation, and the keys of IPAM, separated by a line ===. calicoctl ignores unknown fields in the last part. So the last
// part has a field "others" with the keys that calicoctl leaves out, and with every value that the rest of the file would not
// restore byte for byte. With it, an import restores exactly the exported datastore.

const partSeparator = "==="

// documentedKinds are the kinds of the first part, in its order. calicoctl creates the objects one after the other, and refuses a
// peer before its filters and a policy before its tier.
var documentedKinds = [...]string{
	api.KindIPPool, api.KindBGPFilter, api.KindBGPPeer, api.KindTier, api.KindGlobalNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindGlobalNetworkSet, api.KindHostEndpoint,
	api.KindKubeControllersConfiguration, api.KindNetworkPolicy, api.KindStagedNetworkPolicy, api.KindStagedKubernetesNetworkPolicy, api.KindNetworkSet, api.KindNode,
	api.KindBGPConfiguration, api.KindFelixConfiguration, api.KindIPReservation,
}

// kubernetesPolicy is the prefix of policies that were made from Kubernetes policies. calicoctl neither exports nor imports them.
const kubernetesPolicy = "knp.default."

// keyPart is the last part of the file.
type keyPart struct {
	Affinities []pair  `json:"block_affinities,omitempty"`
	Blocks     []pair  `json:"blocks,omitempty"`
	Handles    []pair  `json:"handles,omitempty"`
	Config     *pair   `json:"config,omitempty"`
	Others     []other `json:"others,omitempty"`
}

// pair is a key of IPAM with its value.
type pair struct {
	Key   string
	Value json.RawMessage
	TTL   int64
}

// other is a key of any kind with its exact value.
type other struct {
	Key      string `json:"key"`
	Value    string `json:"value,omitempty"`
	Base64   []byte `json:"base64,omitempty"`   // replaces Value if that is not UTF-8 text
	Document string `json:"document,omitempty"` // the key of the document for the same object, which may lack details
}

func (o other) bytes() []byte {
	if o.Base64 != nil {
		return o.Base64
	}
	return []byte(o.Value)
}

// archiveWriter distributes the keys of an archive over the parts of the file.
type archiveWriter struct {
	values   map[string][]byte
	text     bytes.Buffer
	made     map[string][]byte // by key: the value that a reader gets from the file so far
	document map[string]string // by stored key: the key under which a reader stores the document
	keys     keyPart
}

// Write writes the file. It writes the same bytes for the same archive.
func (a *Archive) Write(w io.Writer) error {
	out := archiveWriter{values: a.values, made: map[string][]byte{}, document: map[string]string{}}
	paths := map[string][]string{}
	for _, path := range sortedKeys(a.values) {
		if !utf8.ValidString(path) {
			return fmt.Errorf("the key %q is not UTF-8 text and cannot be exported: delete it", path)
		}
		key, known, ok := parseKey(path)
		if !ok || !known {
			key.Kind = ""
		}
		paths[key.Kind] = append(paths[key.Kind], path)
	}
	for _, kind := range documentedKinds {
		for _, path := range paths[kind] {
			out.writeDocument(path)
		}
	}
	if err := out.writeInformation(); err != nil {
		return err
	}
	for _, path := range sortedKeys(a.values) {
		out.addKey(path)
	}
	last := json.NewEncoder(&out.text)
	last.SetEscapeHTML(false) // the values stay as they are
	last.SetIndent("", "  ")
	if err := last.Encode(out.keys); err != nil {
		return fmt.Errorf("encode the keys of IPAM: %w", err)
	}
	_, err := w.Write(out.text.Bytes())
	return err
}

// writeDocument writes an object as a document, if a reader gets the same object from it, except for fields that this version or
// Calico does not know.
func (out *archiveWriter) writeDocument(path string) {
	key, _, _ := parseKey(path)
	o, err := decode(key, Entry{Key: path, Value: out.values[path]})
	if err != nil || !storable(api.KeyOf(o)) || strings.HasPrefix(o.Meta().Name, kubernetesPolicy) {
		return
	}
	at := ResourceKey(api.KeyOf(o))
	if _, taken := out.made[at]; taken || at != path && out.values[at] != nil {
		return // stored under two names: the other one is in force
	}
	text, value, ok := documentOf(o)
	if !ok {
		return
	}
	out.text.Write(text)
	out.text.WriteString("---\n")
	out.made[at], out.document[path] = value, at
}

// documentOf returns an object as YAML, and the value that a reader stores for it. It uses JSON if a reader would get another object
// from the YAML, or if the YAML contains the line that separates the parts.
func documentOf(o api.Object) (text, value []byte, ok bool) {
	o, value, err := plain(o)
	if err != nil {
		return nil, nil, false
	}
	for _, marshal := range []func(any) ([]byte, error){api.MarshalYAML, marshalJSON} {
		text, err := marshal(o)
		if err != nil || bytes.Contains(text, []byte(partSeparator+"\n")) {
			continue
		}
		read, err := api.Decode(text)
		if err != nil || len(read) != 1 {
			continue
		}
		if again, err := encode(read[0]); err == nil && bytes.Equal(again, value) {
			return text, value, true
		}
	}
	return nil, nil, false
}

func marshalJSON(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return append(text, '\n'), err
}

// plain returns an object without resourceVersion and without fields that this version or Calico does not know, and its stored form.
func plain(o api.Object) (api.Object, []byte, error) {
	return known(api.ForCalico(o))
}

// known returns an object without resourceVersion and without fields that this version does not know, and its stored form.
func known(o api.Object) (api.Object, []byte, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, nil, err
	}
	clean, _ := api.New(o.Type().Kind)
	if err := json.Unmarshal(text, clean); err != nil {
		return nil, nil, err
	}
	clean.Meta().ResourceVersion, clean.Meta().SelfLink = "", ""
	value, err := encode(clean)
	return clean, value, err
}

func (out *archiveWriter) writeInformation() error {
	o, err := decode(informationOf, Entry{Key: informationKey, Value: out.values[informationKey]})
	if err != nil {
		return err
	}
	clean, value, err := plain(o)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(clean, "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(&out.text, "%s\n%s\n%s\n", partSeparator, text, partSeparator)
	out.made[informationKey], out.document[informationKey] = value, informationKey
	return nil
}

// addKey adds a key of IPAM to its list in the last part. It adds any key to the others, unless a reader gets its exact value from
// the rest of the file.
func (out *archiveWriter) addKey(path string) {
	value := out.values[path]
	if isIPAM(path) && readByAll(path, value) {
		out.keys.add(pair{Key: path, Value: value})
		out.made[path] = compact(value)
	}
	if made, ok := out.made[path]; ok && bytes.Equal(made, value) {
		return
	}
	o := other{Key: path, Value: string(value), Document: out.document[path]}
	if !utf8.Valid(value) {
		o.Value, o.Base64 = "", value
	}
	out.keys.Others = append(out.keys.Others, o)
}

const (
	handleRoot = ipam.Root + "handle/"
	configKey  = ipam.Root + "config"
)

// isIPAM says whether a key is one of those that calicoctl exports as keys of IPAM.
func isIPAM(path string) bool {
	_, isBlock := ipam.ParseBlockKey(path)
	_, _, isAffinity := ipam.ParseAffinityKey(path)
	return isBlock || isAffinity || strings.HasPrefix(path, handleRoot) || path == configKey
}

func (k *keyPart) add(p pair) {
	switch _, isBlock := ipam.ParseBlockKey(p.Key); {
	case isBlock:
		k.Blocks = append(k.Blocks, p)
	case strings.HasPrefix(p.Key, handleRoot):
		k.Handles = append(k.Handles, p)
	case p.Key == configKey:
		k.Config = &p
	default:
		k.Affinities = append(k.Affinities, p)
	}
}

// pairs returns all keys of IPAM.
func (k *keyPart) pairs() []pair {
	all := slices.Concat(k.Affinities, k.Blocks, k.Handles)
	if k.Config != nil {
		all = append(all, *k.Config)
	}
	return all
}

// readByAll says whether every reader of the file can read a value of IPAM. calicoctl refuses the whole file because of one that it
// cannot read.
func readByAll(path string, value []byte) bool {
	if key, known, ok := parseKey(path); ok && known {
		_, err := decode(key, Entry{Key: path, Value: value})
		return err == nil && json.Valid(value)
	}
	if path == configKey {
		return json.Unmarshal(value, &map[string]json.RawMessage{}) == nil
	}
	return json.Unmarshal(value, &struct {
		Block   map[string]int
		Deleted bool
	}{}) == nil
}

func compact(value []byte) []byte {
	var out bytes.Buffer
	if json.Compact(&out, value) != nil {
		return value
	}
	return out.Bytes()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

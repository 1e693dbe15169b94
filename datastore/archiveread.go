package datastore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/margay-project/margay/api"
)

// ReadArchive parses a file that Archive.Write or calicoctl datastore migrate export wrote.
func ReadArchive(text []byte) (*Archive, error) {
	parts := splitArchive(text)
	if len(parts) != 3 {
		return nil, fmt.Errorf("this is not a file of datastore migrate export: want three parts separated by lines %s, found %d: export again", partSeparator, len(parts))
	}
	a := &Archive{values: map[string][]byte{}, anonymous: map[string]bool{}}
	documents, err := a.readDocuments(parts[0].text)
	if err == nil {
		err = a.readInformation(parts[1])
	}
	if err == nil {
		err = a.readKeys(parts[2], documents)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// part is a part of the file. line is the number of its first line in the file, from 0.
type part struct {
	text []byte
	line int
}

func splitArchive(text []byte) []part {
	parts, line := []part{{}}, 0
	for l := range bytes.Lines(text) {
		line++
		if string(bytes.TrimRight(l, "\r\n")) == partSeparator {
			parts = append(parts, part{line: line})
			continue
		}
		last := &parts[len(parts)-1]
		last.text = append(last.text, l...)
	}
	return parts
}

// decode parses the part as one JSON value. what names the part in errors.
func (p part) decode(into any, what string) error {
	err := json.Unmarshal(p.text, into)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line := p.line + 1 + bytes.Count(p.text[:min(int(syntax.Offset), len(p.text))], []byte("\n"))
		return fmt.Errorf("line %d, %s: %w", line, what, err)
	}
	if err != nil {
		return fmt.Errorf("%s, from line %d on: %w", what, p.line+1, err)
	}
	return nil
}

// readDocuments parses the first part. It returns the objects by the key under which they are stored.
func (a *Archive) readDocuments(text []byte) (map[string]api.Object, error) {
	objects, err := api.Decode(text)
	if err != nil {
		return nil, err
	}
	documents := map[string]api.Object{}
	for _, o := range objects {
		key := api.KeyOf(o)
		if kind, _ := api.KindOf(key.Kind); kind.ReadOnly {
			return nil, fmt.Errorf("%v is among the documents, but its kind belongs to another part of the file: export again", key)
		}
		if !storable(key) {
			return nil, fmt.Errorf("%v cannot be stored: want a name without slashes, and a namespace only for kinds that have namespaces", key)
		}
		value, err := encode(o)
		if err != nil {
			return nil, err
		}
		path := ResourceKey(key)
		documents[path], a.values[path] = o, value
		a.anonymous[path] = o.Meta().UID == "" && o.Meta().CreationTimestamp.IsZero()
	}
	return documents, nil
}

// storable says whether the key of an object gives a key of etcd that no other object has.
func storable(key api.Key) bool {
	kind, _ := api.KindOf(key.Kind)
	return key.Name != "" && !strings.Contains(key.Name+key.Namespace, "/") && kind.Namespaced == (key.Namespace != "")
}

func (a *Archive) readInformation(p part) error {
	const what = "the part with ClusterInformation"
	information := &api.ClusterInformation{}
	if err := p.decode(information, what); err != nil {
		return err
	}
	if information.Kind != informationOf.Kind || information.Name != informationOf.Name {
		return fmt.Errorf("%s: found %v, want %v", what, api.KeyOf(information), informationOf)
	}
	locked := false
	information.Spec.DatastoreReady = &locked
	value, err := encode(information)
	a.values[informationKey] = value
	return err
}

func (a *Archive) readKeys(p part, documents map[string]api.Object) error {
	const what = "the part with the keys of IPAM"
	var keys keyPart
	if err := p.decode(&keys, what); err != nil {
		return err
	}
	for _, pair := range keys.pairs() {
		if _, twice := a.values[pair.Key]; twice || !isIPAM(pair.Key) {
			return fmt.Errorf("%s: %s occurs twice, or is not a key of IPAM: export again", what, pair.Key)
		}
		a.values[pair.Key] = compact(pair.Value)
	}
	seen := map[string]bool{}
	for _, o := range keys.Others {
		if !strings.HasPrefix(o.Key, rootKey) || seen[o.Key] {
			return fmt.Errorf("%s: others: %s occurs twice, or does not begin with %s: export again", what, o.Key, rootKey)
		}
		seen[o.Key] = true
		if err := a.readOther(o, documents); err != nil {
			return fmt.Errorf("%s: others: %s: %w", what, o.Key, err)
		}
	}
	return nil
}

// readOther uses the exact value of a key, instead of the document for the same object.
func (a *Archive) readOther(o other, documents map[string]api.Object) error {
	value := o.bytes()
	switch document, written := documents[o.Document]; {
	case o.Document == informationKey:
		return a.readStoredInformation(value)
	case o.Document != "" && !written:
		return fmt.Errorf("its document is missing: %w", errEdited)
	case written:
		key, _, _ := parseKey(o.Key)
		stored, err := decode(key, Entry{Key: o.Key, Value: value})
		if err != nil {
			return err
		}
		if !sameDocument(document, stored) {
			return fmt.Errorf("the document of %v has another content: %w", api.KeyOf(document), errEdited)
		}
		delete(a.values, o.Document)
	}
	a.values[o.Key] = value
	delete(a.anonymous, o.Key)
	return nil
}

var errEdited = errors.New("the file was changed after the export: import the unchanged file and change the object then, or remove its entry from others too")

// sameDocument says whether a document was made from a stored object. Earlier versions kept fields in it that Calico does not know.
func sameDocument(document, stored api.Object) bool {
	value, err := encode(document)
	if err != nil {
		return false
	}
	for _, form := range []func(api.Object) (api.Object, []byte, error){plain, known} {
		if _, wanted, err := form(stored); err == nil && bytes.Equal(value, wanted) {
			return true
		}
	}
	return false
}

// readStoredInformation uses the exact value of the ClusterInformation. It refuses one that is not locked.
func (a *Archive) readStoredInformation(value []byte) error {
	if !isLocked(value) {
		return errors.New("the exported datastore was not locked: lock it and export again")
	}
	stored, err := decode(informationOf, Entry{Key: informationKey, Value: value})
	if err != nil {
		return err
	}
	if _, wanted, err := plain(stored); err != nil || !bytes.Equal(a.values[informationKey], wanted) {
		return fmt.Errorf("the part with ClusterInformation has another content: %w", errEdited)
	}
	a.values[informationKey] = value
	return nil
}

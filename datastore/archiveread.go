package datastore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/margay-project/margay/api"
)

// ReadArchive reads a file that Archive.Write or calicoctl datastore migrate export wrote.
func ReadArchive(text []byte) (*Archive, error) {
	parts := splitArchive(text)
	if len(parts) != 3 {
		return nil, fmt.Errorf("this is no file of datastore migrate export: want three parts with lines %s between them, found %d; export anew", partSeparator, len(parts))
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

// part is a part of the file; line is that of its first line, from 0.
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

// decode reads the part as one JSON value.
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

// readDocuments returns what was read, by the key it is stored under.
func (a *Archive) readDocuments(text []byte) (map[string]api.Object, error) {
	objects, err := api.Decode(text)
	if err != nil {
		return nil, err
	}
	documents := map[string]api.Object{}
	for _, o := range objects {
		key := api.KeyOf(o)
		if kind, _ := api.KindOf(key.Kind); kind.ReadOnly {
			return nil, fmt.Errorf("%v stands among the documents: its kind belongs into another part of the file", key)
		}
		if !storable(key) {
			return nil, fmt.Errorf("%v cannot be stored: want a name, and a namespace exactly when the kind has one, without slashes", key)
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

// storable says whether a key of etcd names this object and no other.
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
			return fmt.Errorf("%s: %s stands there twice, or is no key of IPAM", what, pair.Key)
		}
		a.values[pair.Key] = compact(pair.Value)
	}
	seen := map[string]bool{}
	for _, o := range keys.Others {
		if !strings.HasPrefix(o.Key, rootKey) || seen[o.Key] {
			return fmt.Errorf("%s: others: %s stands there twice, or does not begin with %s", what, o.Key, rootKey)
		}
		seen[o.Key] = true
		if err := a.readOther(o, documents); err != nil {
			return fmt.Errorf("%s: others: %s: %w", what, o.Key, err)
		}
	}
	return nil
}

// readOther takes a value as it was stored, in the place of the document that says the same.
func (a *Archive) readOther(o other, documents map[string]api.Object) error {
	value := o.bytes()
	switch document, written := documents[o.Document]; {
	case o.Document == informationKey:
		return a.readStoredInformation(value)
	case o.Document != "" && !written:
		return fmt.Errorf("its document is gone: %w", errEdited)
	case written:
		key, _, _ := parseKey(o.Key)
		stored, err := decode(key, Entry{Key: o.Key, Value: value})
		if err != nil {
			return err
		}
		if !sameDocument(document, stored) {
			return fmt.Errorf("the document of %v says something else: %w", api.KeyOf(document), errEdited)
		}
		delete(a.values, o.Document)
	}
	a.values[o.Key] = value
	delete(a.anonymous, o.Key)
	return nil
}

var errEdited = errors.New("the file was changed after the export: import it as it was and change the object then, or take its entry out of others too")

// sameDocument says whether a document is that of a stored object. Earlier versions left fields in it that Calico does not know.
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

// readStoredInformation takes a ClusterInformation as it was stored, if it is locked as it must be.
func (a *Archive) readStoredInformation(value []byte) error {
	if !isLocked(value) {
		return errors.New("it is not locked: export from a locked datastore")
	}
	stored, err := decode(informationOf, Entry{Key: informationKey, Value: value})
	if err != nil {
		return err
	}
	if _, wanted, err := plain(stored); err != nil || !bytes.Equal(a.values[informationKey], wanted) {
		return fmt.Errorf("the part with ClusterInformation says something else: %w", errEdited)
	}
	a.values[informationKey] = value
	return nil
}

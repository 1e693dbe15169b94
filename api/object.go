package api

import (
	"encoding/json"
	"time"
)

// APIVersion is the version that every object of every kind carries.
const APIVersion = "projectcalico.org/v3"

// Object is one object of the datastore; the concrete types are *GlobalNetworkPolicy, *Tier and so on.
type Object interface {
	// Meta is the object's own metadata, to read or to change.
	Meta() *Metadata
	// Type is the object's kind and version, to read or to change.
	Type() *TypeMeta
}

// TypeMeta begins every object.
type TypeMeta struct {
	Kind       string `json:"kind,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
}

func (t *TypeMeta) Type() *TypeMeta { return t }

// Metadata names an object and keeps what the datastore knows of it. Its wire form is that of Kubernetes.
type Metadata struct {
	Name                       string            `json:"name,omitempty"`                       // unique among the objects of the kind, and of the namespace
	GenerateName               string            `json:"generateName,omitempty"`               // must be left out: give the object a name
	Namespace                  string            `json:"namespace,omitempty"`                  // default, when it is left out; kinds without one must not have it
	SelfLink                   string            `json:"selfLink,omitempty"`                   // never stored
	UID                        string            `json:"uid,omitempty"`                        // made when the object is created
	ResourceVersion            string            `json:"resourceVersion,omitempty"`            // never stored: etcd's ModRevision
	Generation                 int64             `json:"generation,omitempty"`                 // kept as it is
	CreationTimestamp          Time              `json:"creationTimestamp,omitzero"`           // set when the object is created
	DeletionTimestamp          *Time             `json:"deletionTimestamp,omitempty"`          // kept as it is
	DeletionGracePeriodSeconds *int64            `json:"deletionGracePeriodSeconds,omitempty"` // kept as it is
	Labels                     map[string]string `json:"labels,omitempty"`                     // what selectors ask about
	Annotations                map[string]string `json:"annotations,omitempty"`                // notes of people and tools
	OwnerReferences            json.RawMessage   `json:"ownerReferences,omitempty"`            // kept as they are
	Finalizers                 []string          `json:"finalizers,omitempty"`                 // kept as they are
	ManagedFields              json.RawMessage   `json:"managedFields,omitempty"`              // kept as they are

	// Rest has the fields of the stored object that this version does not know, so that Encode writes them back. Those of
	// rules are in the rules.
	Rest []RestField `json:"-"`

	// Unsealed says that the stored object has a rule that a program which does not know all of its fields would widen. Writing
	// the object again mends that (see seal.go).
	Unsealed bool `json:"-"`
}

// RestField is a field that this version does not know.
type RestField struct {
	Path  string // a JSON pointer: /spec/name
	Value json.RawMessage
}

func (m *Metadata) Meta() *Metadata { return m }

// Time is a moment in RFC 3339 with a resolution of a second; null is the zero time.
type Time struct{ time.Time }

func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(t.UTC().Format(time.RFC3339))
}

func (t *Time) UnmarshalJSON(text []byte) error {
	var s *string
	if err := json.Unmarshal(text, &s); err != nil || s == nil {
		return err
	}
	parsed, err := time.Parse(time.RFC3339, *s)
	t.Time = parsed
	return err
}

// Key identifies an object: the same key, the same object.
type Key struct {
	Kind      string
	Namespace string // empty for kinds that have none
	Name      string
}

func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind + "(" + k.Name + ")"
	}
	return k.Kind + "(" + k.Namespace + "/" + k.Name + ")"
}

// KeyOf is the key of an object that has its kind filled in.
func KeyOf(o Object) Key {
	return Key{Kind: o.Type().Kind, Namespace: o.Meta().Namespace, Name: o.Meta().Name}
}

// Update is one change of the datastore, as the calculation sees it.
//
// A nil Object is a deletion. Broken says that the stored object is invalid and that there has never been a valid
// version of it: Object then holds what could be read (it may be nil), and must only ever close, never open.
type Update struct {
	Key    Key
	Object Object
	Broken string
}

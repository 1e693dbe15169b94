package api

import (
	"encoding/json"
	"time"
)

// APIVersion is the version that every object of every kind carries.
const APIVersion = "projectcalico.org/v3"

// Object is one object of the datastore. The concrete types are *GlobalNetworkPolicy, *Tier and so on.
type Object interface {
	// Meta returns the object's own metadata, to read or to change.
	Meta() *Metadata
	// Type returns the object's kind and version, to read or to change.
	Type() *TypeMeta
}

// TypeMeta holds the kind and version of an object.
type TypeMeta struct {
	Kind       string `json:"kind,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
}

// Type makes every struct that embeds a TypeMeta half of an Object; Meta is the other half.
func (t *TypeMeta) Type() *TypeMeta { return t }

// Metadata names an object and holds what the datastore knows about it. Its wire form is that of Kubernetes.
type Metadata struct {
	Name                       string            `json:"name,omitempty"`                       // unique among the objects of the kind, in their namespace if they have one
	GenerateName               string            `json:"generateName,omitempty"`               // must be left out: give the object a name
	Namespace                  string            `json:"namespace,omitempty"`                  // namespace of the object: default unless set; not allowed for kinds without namespaces
	SelfLink                   string            `json:"selfLink,omitempty"`                   // never stored
	UID                        string            `json:"uid,omitempty"`                        // random identifier, set when the object is created
	ResourceVersion            string            `json:"resourceVersion,omitempty"`            // version of the object: etcd's ModRevision of the key; never stored in the value
	Generation                 int64             `json:"generation,omitempty"`                 // kept as it is
	CreationTimestamp          Time              `json:"creationTimestamp,omitzero"`           // time at which the object was created
	DeletionTimestamp          *Time             `json:"deletionTimestamp,omitempty"`          // kept as it is
	DeletionGracePeriodSeconds *int64            `json:"deletionGracePeriodSeconds,omitempty"` // kept as it is
	Labels                     map[string]string `json:"labels,omitempty"`                     // labels that selectors match
	Annotations                map[string]string `json:"annotations,omitempty"`                // notes of people and tools
	OwnerReferences            json.RawMessage   `json:"ownerReferences,omitempty"`            // kept as they are
	Finalizers                 []string          `json:"finalizers,omitempty"`                 // kept as they are
	ManagedFields              json.RawMessage   `json:"managedFields,omitempty"`              // kept as they are

	// Rest holds the fields of the stored object that this version does not know. DecodeStored sets it and Encode writes the
	// fields back. Unknown fields of rules are in the rules.
	Rest []RestField `json:"-"`

	// Unsealed says that a rule of the stored object lacks the seal that protects it from programs that do not know all of its
	// fields. DecodeStored sets it. Writing the object again adds the seal (see seal.go).
	Unsealed bool `json:"-"`
}

// RestField is a field that this version does not know.
type RestField struct {
	Path  string // a JSON pointer: /spec/name
	Value json.RawMessage
}

// Meta makes every struct that embeds a Metadata half of an Object; Type is the other half.
func (m *Metadata) Meta() *Metadata { return m }

// Time is a time as in RFC 3339, with a resolution of one second. null is the zero time.
type Time struct{ time.Time }

// MarshalJSON writes the time in UTC, or null.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(t.UTC().Format(time.RFC3339))
}

// UnmarshalJSON reads a time as in RFC 3339, or null.
func (t *Time) UnmarshalJSON(text []byte) error {
	var s *string
	if err := json.Unmarshal(text, &s); err != nil || s == nil {
		return err
	}
	parsed, err := time.Parse(time.RFC3339, *s)
	t.Time = parsed
	return err
}

// Key identifies an object.
type Key struct {
	Kind      string
	Namespace string // empty for kinds without namespaces
	Name      string
}

// String returns KIND(NAME) or KIND(NAMESPACE/NAME), as messages name an object.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind + "(" + k.Name + ")"
	}
	return k.Kind + "(" + k.Namespace + "/" + k.Name + ")"
}

// KeyOf returns the key of an object. Its kind must be filled in.
func KeyOf(o Object) Key {
	return Key{Kind: o.Type().Kind, Namespace: o.Meta().Namespace, Name: o.Meta().Name}
}

// Update is one change of the datastore, as package calc gets it.
//
// A nil Object is a deletion, unless Invalid is set. Invalid is the reason why the stored object is invalid, if there has never
// been a valid version of it. Object then holds the parts that could be read, or nil. It may only deny packets, never allow any.
type Update struct {
	Key     Key
	Object  Object
	Invalid string
}

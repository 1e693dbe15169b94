package api

// The methods in this file are names that go-templates written for calicoctl use. There the metadata is a field ObjectMeta,
// and an interface with a method for each of its fields.

func (m *Metadata) ObjectMeta() *Metadata    { return m }
func (m *Metadata) GetObjectMeta() *Metadata { return m }

func (m *Metadata) GetName() string                   { return m.Name }
func (m *Metadata) GetNamespace() string              { return m.Namespace }
func (m *Metadata) GetUID() string                    { return m.UID }
func (m *Metadata) GetResourceVersion() string        { return m.ResourceVersion }
func (m *Metadata) GetCreationTimestamp() Time        { return m.CreationTimestamp }
func (m *Metadata) GetLabels() map[string]string      { return m.Labels }
func (m *Metadata) GetAnnotations() map[string]string { return m.Annotations }

package api

// The methods in this file are for go-templates that were written for calicoctl. Calico's types have a field ObjectMeta, and a
// method for each field of the metadata.

func (m *Metadata) ObjectMeta() *Metadata    { return m }
func (m *Metadata) GetObjectMeta() *Metadata { return m }

func (m *Metadata) GetName() string                   { return m.Name }
func (m *Metadata) GetNamespace() string              { return m.Namespace }
func (m *Metadata) GetUID() string                    { return m.UID }
func (m *Metadata) GetResourceVersion() string        { return m.ResourceVersion }
func (m *Metadata) GetCreationTimestamp() Time        { return m.CreationTimestamp }
func (m *Metadata) GetLabels() map[string]string      { return m.Labels }
func (m *Metadata) GetAnnotations() map[string]string { return m.Annotations }

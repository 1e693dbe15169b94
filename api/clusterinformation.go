package api

// ClusterInformation named default says what the datastore as a whole is; people read it, the tools write it.
type ClusterInformation struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     ClusterInformationSpec `json:"spec"`
}

type ClusterInformationSpec struct {
	ClusterGUID    string `json:"clusterGUID,omitempty"`    // made once, when the datastore is first used
	ClusterType    string `json:"clusterType,omitempty"`    // words separated by commas
	CalicoVersion  string `json:"calicoVersion,omitempty"`  // what Calico's tools last wrote
	DatastoreReady *bool  `json:"datastoreReady,omitempty"` // false stops agents from programming anything
	Variant        string `json:"variant,omitempty"`        // which of Calico's products wrote it
}

// Locked says whether the datastore is under maintenance: agents neither follow nor change it.
func (c *ClusterInformation) Locked() bool {
	return c.Spec.DatastoreReady != nil && !*c.Spec.DatastoreReady
}

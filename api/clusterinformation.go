package api

// ClusterInformation describes the datastore as a whole. There is one, named default. Only tools write it.
type ClusterInformation struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     ClusterInformationSpec `json:"spec"`
}

// ClusterInformationSpec identifies the datastore and says whether agents may follow it.
type ClusterInformationSpec struct {
	ClusterGUID    string `json:"clusterGUID,omitempty"`    // identifies the datastore; created when the datastore is first used, and never changed
	ClusterType    string `json:"clusterType,omitempty"`    // words separated by commas
	CalicoVersion  string `json:"calicoVersion,omitempty"`  // version of the Calico tool that wrote the datastore last
	DatastoreReady *bool  `json:"datastoreReady,omitempty"` // false locks the datastore: agents keep the policy in force and neither follow nor change the datastore
	Variant        string `json:"variant,omitempty"`        // product that wrote the object, for example Calico
}

// Locked says whether the datastore is locked for maintenance: agents neither follow nor change it.
func (c *ClusterInformation) Locked() bool {
	return c.Spec.DatastoreReady != nil && !*c.Spec.DatastoreReady
}

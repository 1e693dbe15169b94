package api

// ClusterInformation named default says what the datastore as a whole is; people read it, the tools write it.
type ClusterInformation struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     ClusterInformationSpec `json:"spec"`
}

type ClusterInformationSpec struct {
	ClusterGUID    string `json:"clusterGUID,omitempty"`
	ClusterType    string `json:"clusterType,omitempty"` // words separated by commas
	CalicoVersion  string `json:"calicoVersion,omitempty"`
	DatastoreReady *bool  `json:"datastoreReady,omitempty"` // false stops agents from programming anything
	Variant        string `json:"variant,omitempty"`
}

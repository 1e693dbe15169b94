package api

// ClaimedBlock is a BlockAffinity as people read it: IPAM keeps it in another form, outside of the tree of the others.
type ClaimedBlock struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     ClaimedBlockSpec `json:"spec"`
}

type ClaimedBlockSpec struct {
	State   string `json:"state"`          // pending, confirmed, pendingDeletion
	Node    string `json:"node"`           // the node that claims it
	Type    string `json:"type,omitempty"` // host
	CIDR    string `json:"cidr"`           // the block
	Deleted string `json:"deleted"`        // true, false
}

// claimedBlocks is the kind under the name that users know.
func claimedBlocks() Kind {
	return Kind{Name: KindBlockAffinity, Plural: "blockaffinities", ReadOnly: true, New: func() Object {
		return &ClaimedBlock{TypeMeta: TypeMeta{Kind: KindBlockAffinity, APIVersion: APIVersion}}
	}}
}

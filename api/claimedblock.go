package api

// ClaimedBlock is a BlockAffinity as users read it. The stored form is the type BlockAffinity: IPAM keeps it under keys of its own.
type ClaimedBlock struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     ClaimedBlockSpec `json:"spec"`
}

// ClaimedBlockSpec says which node claims which block.
type ClaimedBlockSpec struct {
	State   string `json:"state"`          // pending, confirmed or pendingDeletion; only a confirmed claim counts
	Node    string `json:"node"`           // name of the node that claims the block
	Type    string `json:"type,omitempty"` // kind of the owner: host
	CIDR    string `json:"cidr"`           // network of the block
	Deleted string `json:"deleted"`        // true if the claim is deleted, else false
}

// claimedBlocks returns the kind that users know as BlockAffinity.
func claimedBlocks() Kind {
	return Kind{Name: KindBlockAffinity, Plural: "blockaffinities", ReadOnly: true, New: func() Object {
		return &ClaimedBlock{TypeMeta: TypeMeta{Kind: KindBlockAffinity, APIVersion: APIVersion}}
	}}
}

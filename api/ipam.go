package api

// IPAMBlock is a block of a pool's addresses, with the holder of each address. The name in its key is the block's CIDR as the
// datastore spells it (10.0.0.0-26). It has a key outside of the tree of other objects; see datastore/ipam. An address is named
// by its ordinal: its distance from the first address of the block, from 0.
type IPAMBlock struct {
	TypeMeta
	Metadata                    `json:"-"`
	CIDR                        string            `json:"cidr"`
	Affinity                    *string           `json:"affinity"`                      // owner that claimed the block: host:NODE or virtual:OWNER; null if nobody has
	AffinityClaimTime           *Time             `json:"affinity_claim_time,omitempty"` // time of the claim
	Allocations                 []*int            `json:"allocations"`                   // by ordinal: index into Attributes, or null for a free address
	Unallocated                 []int             `json:"unallocated"`                   // free ordinals: taken from the front, returned at the end
	Attributes                  []IPAMAttribute   `json:"attributes"`
	SequenceNumber              uint64            `json:"sequenceNumber"`              // grows by one with each write of the block
	SequenceNumberForAllocation map[string]uint64 `json:"sequenceNumberForAllocation"` // by ordinal: SequenceNumber before the write that allocated it
	Deleted                     bool              `json:"deleted"`                     // always false in etcd
}

// IPAMAttribute says who holds addresses of a block, or when they were released if they are still cooling down.
type IPAMAttribute struct {
	HandleID            *string           `json:"handle_id,omitempty"`           // name of the handle that counts the addresses of one holder
	Secondary           map[string]string `json:"secondary,omitempty"`           // details about the holder, such as node, pod and type
	AlternateOwnerAttrs map[string]string `json:"alternateOwnerAttrs,omitempty"` // details about the new holder of an address that moves to another machine
	ReleasedAt          *Time             `json:"releasedAt,omitempty"`          // time of the release; null while the addresses are held
}

// BlockAffinity says that a node claims a block. It counts only if its state is confirmed and the block exists.
type BlockAffinity struct {
	TypeMeta
	Metadata `json:"-"`
	State    string `json:"state"`   // pending, confirmed or pendingDeletion
	Deleted  bool   `json:"deleted"` // always false in etcd
}

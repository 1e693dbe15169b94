package api

// IPAMBlock is a block of a pool's addresses and who holds each of them. Its key's name is the block's CIDR as the
// datastore spells it (10.0.0.0-26). It is not in the projectcalico.org tree; see datastore/ipam.
type IPAMBlock struct {
	TypeMeta
	Metadata                    `json:"-"`
	CIDR                        string            `json:"cidr"`
	Affinity                    *string           `json:"affinity"` // host:NODE, virtual:OWNER, or none
	AffinityClaimTime           *Time             `json:"affinity_claim_time,omitempty"`
	Allocations                 []*int            `json:"allocations"` // by ordinal: index into Attributes, or free
	Unallocated                 []int             `json:"unallocated"`
	Attributes                  []IPAMAttribute   `json:"attributes"`
	SequenceNumber              uint64            `json:"sequenceNumber"`
	SequenceNumberForAllocation map[string]uint64 `json:"sequenceNumberForAllocation"`
	Deleted                     bool              `json:"deleted"`
}

// IPAMAttribute says who holds an address, or when it was given back if nobody may have it yet.
type IPAMAttribute struct {
	HandleID            *string           `json:"handle_id,omitempty"`
	Secondary           map[string]string `json:"secondary,omitempty"`
	AlternateOwnerAttrs map[string]string `json:"alternateOwnerAttrs,omitempty"` // of the machine that it moves to, while it moves
	ReleasedAt          *Time             `json:"releasedAt,omitempty"`
}

// BlockAffinity says that a node holds a block, when its state is confirmed and the block exists.
type BlockAffinity struct {
	TypeMeta
	Metadata `json:"-"`
	State    string `json:"state"`
	Deleted  bool   `json:"deleted"`
}

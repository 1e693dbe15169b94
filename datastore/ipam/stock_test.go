package ipam_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

// stockClient changes addresses as Calico's clients do, with one write for each step. It writes the handle before the block for an
// allocation, and after the block for a release. It yields after each write.
type stockClient struct {
	t        *testing.T
	store    kv.KV
	cooldown time.Duration
}

type stockBlock struct {
	CIDR                        string            `json:"cidr"`
	Affinity                    *string           `json:"affinity"`
	Allocations                 []*int            `json:"allocations"`
	Unallocated                 []int             `json:"unallocated"`
	Attributes                  []stockAttribute  `json:"attributes"`
	SequenceNumber              uint64            `json:"sequenceNumber"`
	SequenceNumberForAllocation map[string]uint64 `json:"sequenceNumberForAllocation"`
	Deleted                     bool              `json:"deleted"`
}

type stockAttribute struct {
	HandleID   *string           `json:"handle_id,omitempty"`
	Secondary  map[string]string `json:"secondary,omitempty"`
	ReleasedAt *time.Time        `json:"releasedAt,omitempty"`
}

type stockHandle struct {
	Block   map[string]int `json:"block"`
	Deleted bool           `json:"deleted"`
}

func (b *stockBlock) at(ordinal int) netip.Addr {
	a := netip.MustParsePrefix(b.CIDR).Addr()
	for range ordinal {
		a = a.Next()
	}
	return a
}

func (b *stockBlock) ordinal(a netip.Addr) int {
	for at := range b.Allocations {
		if b.at(at) == a {
			return at
		}
	}
	panic(fmt.Sprintf("%v is not in %s", a, b.CIDR))
}

func (b *stockBlock) handle(at int) string {
	if b.Allocations[at] == nil || b.Attributes[*b.Allocations[at]].HandleID == nil {
		return ""
	}
	return *b.Attributes[*b.Allocations[at]].HandleID
}

// release releases ordinals, and frees those that have cooled down.
func (b *stockBlock) release(ordinals []int, cooldown time.Duration) {
	now := time.Now().Truncate(time.Second)
	b.Attributes = append(b.Attributes, stockAttribute{ReleasedAt: &now})
	for _, at := range ordinals {
		index := len(b.Attributes) - 1
		b.Allocations[at] = &index
		b.SequenceNumberForAllocation[fmt.Sprint(at)] = b.SequenceNumber
	}
	var attributes []stockAttribute
	places := map[int]int{}
	for at, index := range b.Allocations {
		if index == nil {
			continue
		}
		if released := b.Attributes[*index].ReleasedAt; released != nil && time.Since(*released) >= cooldown {
			b.Allocations[at] = nil
			b.Unallocated = append(b.Unallocated, at)
			delete(b.SequenceNumberForAllocation, fmt.Sprint(at))
			continue
		}
		if _, kept := places[*index]; !kept {
			places[*index] = len(attributes)
			attributes = append(attributes, b.Attributes[*index])
		}
		place := places[*index]
		b.Allocations[at] = &place
	}
	b.Attributes = attributes
}

const stockRetries = 100

// read reads a value; the revision is 0 when there is none.
func (s *stockClient) read(key string, value any) int64 {
	entry, err := kv.Get(context.Background(), s.store, key, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	if entry == nil {
		return 0
	}
	if err := json.Unmarshal(entry.Value, value); err != nil {
		s.t.Fatal(err)
	}
	return entry.Revision
}

// write writes a value, or deletes the key when it is nil, if the key is still at the revision.
func (s *stockClient) write(key string, revision int64, value any) bool {
	write := kv.Write{Key: key, Delete: value == nil}
	if value != nil {
		text, err := json.Marshal(value)
		if err != nil {
			s.t.Fatal(err)
		}
		write.Value = text
	}
	outcome, err := s.store.Commit(context.Background(), []kv.Condition{{Key: key, Revision: revision}}, []kv.Write{write})
	if err != nil {
		s.t.Fatal(err)
	}
	return outcome.Done
}

func (s *stockClient) writeBlock(revision int64, b *stockBlock) bool {
	b.SequenceNumber++
	return s.write(ipam.BlockKey(netip.MustParsePrefix(b.CIDR)), revision, b)
}

// count changes how many addresses of a block a handle counts.
func (s *stockClient) count(id string, cidr netip.Prefix, n int) {
	for range stockRetries {
		var h stockHandle
		revision := s.read(root+"handle/"+id, &h)
		if h.Block == nil {
			h.Block = map[string]int{}
		}
		h.Block[cidr.String()] += n
		switch left := h.Block[cidr.String()]; {
		case left < 0:
			s.t.Fatalf("%s would count %d in %v: somebody took off what is not his", id, left, cidr)
		case left == 0:
			delete(h.Block, cidr.String())
		}
		var value any = h
		if len(h.Block) == 0 {
			value = nil
		}
		if s.write(root+"handle/"+id, revision, value) {
			return
		}
	}
	s.t.Fatalf("%s: no end of conflicts", id)
}

// assign gives a free address to a handle, and claims its block for the node if nobody has it.
func (s *stockClient) assign(node string, a netip.Addr, id string) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		cidr := blockOf(a)
		for range stockRetries {
			var b stockBlock
			revision := s.read(ipam.BlockKey(cidr), &b)
			if revision == 0 {
				if !s.claim(node, cidr, yield) {
					return
				}
				continue
			}
			at := b.ordinal(a)
			if b.Allocations[at] != nil {
				return
			}
			s.count(id, cidr, 1)
			if !yield(struct{}{}) {
				return
			}
			index := slices.IndexFunc(b.Attributes, func(is stockAttribute) bool {
				return is.HandleID != nil && *is.HandleID == id && len(is.Secondary) == 0
			})
			if index < 0 {
				index = len(b.Attributes)
				b.Attributes = append(b.Attributes, stockAttribute{HandleID: &id})
			}
			b.Allocations[at] = &index
			b.Unallocated = slices.DeleteFunc(b.Unallocated, func(free int) bool { return free == at })
			b.SequenceNumberForAllocation[fmt.Sprint(at)] = b.SequenceNumber
			if s.writeBlock(revision, &b) || !yield(struct{}{}) {
				return
			}
			s.count(id, cidr, -1)
			if !yield(struct{}{}) {
				return
			}
		}
		s.t.Fatalf("assign %v: no end of conflicts", a)
	}
}

type stockAffinity struct {
	State   string `json:"state"`
	Deleted bool   `json:"deleted"`
}

// claim claims a block in three steps; false when the other side of yield went away.
func (s *stockClient) claim(node string, cidr netip.Prefix, yield func(struct{}) bool) bool {
	key, owner := ipam.AffinityKey(node, cidr), "host:"+node
	var affinity stockAffinity
	revision := s.read(key, &affinity)
	if !s.write(key, revision, stockAffinity{State: "pending"}) {
		return yield(struct{}{})
	}
	if !yield(struct{}{}) {
		return false
	}
	b := stockBlock{
		CIDR: cidr.String(), Affinity: &owner, Allocations: make([]*int, 4), Unallocated: []int{0, 1, 2, 3},
		SequenceNumber: uint64(time.Now().UnixNano()), SequenceNumberForAllocation: map[string]uint64{},
	}
	made := s.writeBlock(0, &b)
	if !made {
		s.read(ipam.BlockKey(cidr), &b)
	}
	if !yield(struct{}{}) {
		return false
	}
	if revision = s.read(key, &affinity); revision == 0 || affinity.State != "pending" {
		return yield(struct{}{})
	}
	if made || b.Affinity != nil && *b.Affinity == owner {
		s.write(key, revision, stockAffinity{State: "confirmed"})
	} else {
		s.write(key, revision, nil)
	}
	return yield(struct{}{})
}

// releaseAddress gives back an address, whoever has it.
func (s *stockClient) releaseAddress(a netip.Addr) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		for range stockRetries {
			var b stockBlock
			revision := s.read(ipam.BlockKey(blockOf(a)), &b)
			if revision == 0 {
				return
			}
			at := b.ordinal(a)
			id := b.handle(at)
			if id == "" {
				return
			}
			b.release([]int{at}, s.cooldown)
			if !yield(struct{}{}) {
				return
			}
			if s.writeBlock(revision, &b) {
				if yield(struct{}{}) {
					s.count(id, blockOf(a), -1)
				}
				return
			}
		}
		s.t.Fatalf("release %v: no end of conflicts", a)
	}
}

// releaseHandle releases the addresses of a handle.
func (s *stockClient) releaseHandle(id string) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		var h stockHandle
		s.read(root+"handle/"+id, &h)
		for _, text := range slices.Sorted(maps.Keys(h.Block)) {
			if !s.releaseIn(id, netip.MustParsePrefix(text), yield) {
				return
			}
		}
	}
}

func (s *stockClient) releaseIn(id string, cidr netip.Prefix, yield func(struct{}) bool) bool {
	for range stockRetries {
		var b stockBlock
		revision := s.read(ipam.BlockKey(cidr), &b)
		var held []int
		for at := range b.Allocations {
			if b.handle(at) == id {
				held = append(held, at)
			}
		}
		if len(held) == 0 {
			return true
		}
		b.release(held, s.cooldown)
		if !yield(struct{}{}) {
			return false
		}
		if s.writeBlock(revision, &b) {
			if !yield(struct{}{}) {
				return false
			}
			s.count(id, cidr, -len(held))
			return yield(struct{}{})
		}
	}
	s.t.Fatalf("release %s in %v: no end of conflicts", id, cidr)
	return false
}

// releaseAffinity takes a block from a node.
func (s *stockClient) releaseAffinity(node string, cidr netip.Prefix) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		key, owner := ipam.AffinityKey(node, cidr), "host:"+node
		var affinity stockAffinity
		revision := s.read(key, &affinity)
		if revision == 0 || affinity.State == "pending" || !s.write(key, revision, stockAffinity{State: "pendingDeletion"}) || !yield(struct{}{}) {
			return
		}
		for range stockRetries {
			var b stockBlock
			blockRevision := s.read(ipam.BlockKey(cidr), &b)
			if blockRevision == 0 || b.Affinity == nil || *b.Affinity != owner {
				break
			}
			done := false
			if !slices.ContainsFunc(b.Allocations, func(index *int) bool { return index != nil }) {
				done = s.write(ipam.BlockKey(cidr), blockRevision, nil)
			} else {
				b.Affinity = nil
				done = s.writeBlock(blockRevision, &b)
			}
			if !yield(struct{}{}) {
				return
			}
			if done {
				break
			}
		}
		if revision = s.read(key, &affinity); affinity.State == "pendingDeletion" {
			s.write(key, revision, nil)
		}
	}
}

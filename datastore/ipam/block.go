package ipam

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
)

// newBlock returns a block that a node owns, with every address free.
func newBlock(cidr netip.Prefix, node string, now time.Time) *api.IPAMBlock {
	owner := ownerOf(node)
	size := 1 << (cidr.Addr().BitLen() - cidr.Bits())
	b := &api.IPAMBlock{
		CIDR:                        cidr.String(),
		Affinity:                    &owner,
		AffinityClaimTime:           &api.Time{Time: now.UTC().Truncate(time.Second)},
		Allocations:                 make([]*int, size),
		Unallocated:                 make([]int, size),
		SequenceNumber:              uint64(now.UnixNano()),
		SequenceNumberForAllocation: map[string]uint64{},
	}
	for i := range b.Unallocated {
		b.Unallocated[i] = i
	}
	return b
}

// own makes a node the owner of a block.
func own(b *api.IPAMBlock, node string, now time.Time) {
	setOwner(b, node, now)
	b.SequenceNumber++
}

// setOwner is own for a block that changes otherwise too: finish increments its sequence number.
func setOwner(b *api.IPAMBlock, node string, now time.Time) {
	owner := ownerOf(node)
	b.Affinity, b.AffinityClaimTime = &owner, &api.Time{Time: now.UTC().Truncate(time.Second)}
}

func ownerOf(node string) string { return "host:" + node }

// ordinal returns the distance of an address from the first address of a block.
func ordinal(cidr netip.Prefix, addr netip.Addr) int {
	if addr.Is4() {
		base, at := cidr.Addr().As4(), addr.As4()
		return int(binary.BigEndian.Uint32(at[:]) - binary.BigEndian.Uint32(base[:]))
	}
	base, at := cidr.Addr().As16(), addr.As16()
	return int(new(big.Int).Sub(new(big.Int).SetBytes(at[:]), new(big.Int).SetBytes(base[:])).Int64())
}

// addressAt returns the address with an ordinal.
func addressAt(cidr netip.Prefix, at int) netip.Addr {
	bytes := cidr.Addr().AsSlice()
	// A block has at most 4096 addresses and begins at a multiple of its size, so the last two bytes are enough.
	last := binary.BigEndian.Uint16(bytes[len(bytes)-2:])
	binary.BigEndian.PutUint16(bytes[len(bytes)-2:], last+uint16(at))
	addr, _ := netip.AddrFromSlice(bytes)
	return addr
}

// handleOf returns the handle that holds an ordinal. allocated is false for a free one. cooling says that the address was released and
// may not be allocated again yet; the handle is then empty.
func handleOf(b *api.IPAMBlock, at int) (handle string, allocated, cooling bool) {
	index := b.Allocations[at]
	if index == nil {
		return "", false, false
	}
	if *index < 0 || *index >= len(b.Attributes) {
		return "", true, false
	}
	attribute := b.Attributes[*index]
	if attribute.HandleID != nil {
		handle = trimHandle(*attribute.HandleID)
	}
	return handle, true, attribute.ReleasedAt != nil
}

// trimHandle cuts a handle at the first carriage return: some writers of Calico left a part of a Windows line there.
func trimHandle(handle string) string {
	handle, _, _ = strings.Cut(handle, "\r")
	return handle
}

// assign allocates an ordinal to a handle. Ordinals with equal attributes share one.
func assign(b *api.IPAMBlock, at int, handle string, secondary map[string]string) {
	repair(b)
	index := slices.IndexFunc(b.Attributes, func(a api.IPAMAttribute) bool {
		return a.HandleID != nil && *a.HandleID == handle && a.ReleasedAt == nil && len(a.AlternateOwnerAttrs) == 0 &&
			maps.Equal(a.Secondary, secondary)
	})
	if index < 0 {
		index = len(b.Attributes)
		b.Attributes = append(b.Attributes, api.IPAMAttribute{HandleID: &handle, Secondary: secondary})
	}
	b.Allocations[at] = &index
	b.Unallocated = slices.DeleteFunc(b.Unallocated, func(free int) bool { return free == at })
	number(b, at)
}

// number stores the block's sequence number with an ordinal, at its allocation or release.
func number(b *api.IPAMBlock, at int) {
	if b.SequenceNumberForAllocation == nil { // blocks of very old versions have none
		b.SequenceNumberForAllocation = map[string]uint64{}
	}
	b.SequenceNumberForAllocation[strconv.Itoa(at)] = b.SequenceNumber
}

// numberOf returns the block's sequence number at the allocation of an ordinal; 0 if the allocator did not store it.
func numberOf(b *api.IPAMBlock, at int) uint64 {
	return b.SequenceNumberForAllocation[strconv.Itoa(at)]
}

// release takes an ordinal from its holder. It stays allocated, to no handle, until finish finds that it has cooled down.
func release(b *api.IPAMBlock, at int, now time.Time) {
	repair(b)
	released := now.UTC().Truncate(time.Second)
	index := slices.IndexFunc(b.Attributes, func(a api.IPAMAttribute) bool {
		return a.ReleasedAt != nil && a.ReleasedAt.Equal(released) && a.HandleID == nil && len(a.Secondary) == 0
	})
	if index < 0 {
		index = len(b.Attributes)
		b.Attributes = append(b.Attributes, api.IPAMAttribute{ReleasedAt: &api.Time{Time: released}})
	}
	b.Allocations[at] = &index
	number(b, at)
}

func free(b *api.IPAMBlock, at int) {
	b.Allocations[at] = nil
	if !slices.Contains(b.Unallocated, at) { // a damaged block may have it already; twice in the list, it would be allocated twice
		b.Unallocated = append(b.Unallocated, at)
	}
	delete(b.SequenceNumberForAllocation, strconv.Itoa(at))
}

// finish must be called after every change of a block. It frees ordinals that have cooled down, drops unused attributes, and
// increments the sequence number.
func finish(b *api.IPAMBlock, cooldown time.Duration, now time.Time) {
	thaw(b, cooldown, now)
	compact(b)
	b.SequenceNumber++
}

// thaw frees ordinals that have cooled down.
func thaw(b *api.IPAMBlock, cooldown time.Duration, now time.Time) {
	for at, index := range b.Allocations {
		if index == nil || *index < 0 || *index >= len(b.Attributes) {
			continue
		}
		if released := b.Attributes[*index].ReleasedAt; released != nil && !now.Before(released.Add(cooldown)) {
			free(b, at)
		}
	}
}

// compact drops unused attributes, with their unknown fields. The unknown fields of the other attributes move with them.
func compact(b *api.IPAMBlock) {
	moved := make([]int, len(b.Attributes))
	for i := range moved {
		moved[i] = -1
	}
	for _, index := range b.Allocations {
		if index != nil && *index >= 0 && *index < len(moved) {
			moved[*index] = 0
		}
	}
	kept := make([]api.IPAMAttribute, 0, len(b.Attributes))
	for i, attribute := range b.Attributes {
		if moved[i] == 0 {
			moved[i] = len(kept)
			kept = append(kept, attribute)
		}
	}
	b.Attributes = kept
	for at, index := range b.Allocations {
		if index != nil && *index >= 0 && *index < len(moved) {
			b.Allocations[at] = &moved[*index]
		}
	}
	b.Rest = moveUnknown(b.Rest, moved)
}

// moveUnknown returns the unknown fields after attributes have moved. moved holds the new index of each attribute, or -1 for a dropped
// one.
func moveUnknown(rest []api.RestField, moved []int) []api.RestField {
	var kept []api.RestField
	for _, field := range rest {
		if inside, ok := strings.CutPrefix(field.Path, "/attributes/"); ok {
			text, name, _ := strings.Cut(inside, "/")
			index, err := strconv.Atoi(text)
			if err != nil || index < 0 || index >= len(moved) || moved[index] < 0 {
				continue
			}
			field.Path = fmt.Sprintf("/attributes/%d/%s", moved[index], name)
		}
		kept = append(kept, field)
	}
	return kept
}

// repair gives ordinals whose attribute does not exist an empty attribute. Otherwise the next attribute that is added would become
// theirs.
func repair(b *api.IPAMBlock) {
	noOwner := len(b.Attributes)
	for at, index := range b.Allocations {
		if index == nil || *index >= 0 && *index < noOwner {
			continue
		}
		if len(b.Attributes) == noOwner {
			b.Attributes = append(b.Attributes, api.IPAMAttribute{})
		}
		b.Allocations[at] = &noOwner
	}
}

// windowsHandle is the handle of the addresses that a Windows node reserves for itself in each of its blocks.
const windowsHandle = "windows-reserved-ipam-handle"

// empty says whether no address of the block is held or cooling down. Deleting a block with a cooling address would end the cooldown.
func empty(b *api.IPAMBlock, cooldown time.Duration, now time.Time) bool {
	for at, index := range b.Allocations {
		switch handle, allocated, cooling := handleOf(b, at); {
		case !allocated || strings.EqualFold(handle, windowsHandle):
		case !cooling || now.Before(b.Attributes[*index].ReleasedAt.Add(cooldown)):
			return false
		}
	}
	return true
}

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

// newBlock is a block that a node claims, with every address free.
func newBlock(cidr netip.Prefix, node string, now time.Time) *api.IPAMBlock {
	owner := ownerOf(node)
	size := 1 << (cidr.Addr().BitLen() - cidr.Bits())
	b := &api.IPAMBlock{
		CIDR:                        cidr.String(),
		Affinity:                    &owner,
		AffinityClaimTime:           &api.Time{Time: now.UTC().Truncate(time.Second)},
		Allocations:                 make([]*int, size),
		Unallocated:                 make([]int, size),
		Attributes:                  []api.IPAMAttribute{},
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
	owner := ownerOf(node)
	b.Affinity, b.AffinityClaimTime = &owner, &api.Time{Time: now.UTC().Truncate(time.Second)}
	b.SequenceNumber++
}

func ownerOf(node string) string { return "host:" + node }

// ordinal is the place of an address in a block.
func ordinal(cidr netip.Prefix, addr netip.Addr) int {
	if addr.Is4() {
		base, at := cidr.Addr().As4(), addr.As4()
		return int(binary.BigEndian.Uint32(at[:]) - binary.BigEndian.Uint32(base[:]))
	}
	base, at := cidr.Addr().As16(), addr.As16()
	return int(new(big.Int).Sub(new(big.Int).SetBytes(at[:]), new(big.Int).SetBytes(base[:])).Int64())
}

// handleOf is who holds an ordinal: the handle, whether there is a holder, and whether it is one that gave the address
// back a short while ago.
func handleOf(b *api.IPAMBlock, at int) (handle string, taken, cooling bool) {
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

// trimHandle cuts what some writers left behind a handle.
func trimHandle(handle string) string {
	handle, _, _ = strings.Cut(handle, "\r")
	return handle
}

// assign gives an ordinal to a handle. Equal attributes are shared.
func assign(b *api.IPAMBlock, at int, handle string, secondary map[string]string) {
	mend(b)
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

// number notes at which of the block's numbers an ordinal went to its holder.
func number(b *api.IPAMBlock, at int) {
	if b.SequenceNumberForAllocation == nil { // in blocks of very old writers
		b.SequenceNumberForAllocation = map[string]uint64{}
	}
	b.SequenceNumberForAllocation[strconv.Itoa(at)] = b.SequenceNumber
}

// numberOf is the block's number at which an ordinal went to its holder; 0 when its writer did not note it.
func numberOf(b *api.IPAMBlock, at int) uint64 {
	return b.SequenceNumberForAllocation[strconv.Itoa(at)]
}

// release takes an ordinal from its holder. It stays taken, by nobody, until settle finds that it cooled down.
func release(b *api.IPAMBlock, at int, now time.Time) {
	mend(b)
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
	if !slices.Contains(b.Unallocated, at) { // in a damaged block it may be there: twice would mean to give it away twice
		b.Unallocated = append(b.Unallocated, at)
	}
	delete(b.SequenceNumberForAllocation, strconv.Itoa(at))
}

// settle ends every change of a block: what has cooled down is freed, attributes of nobody go, and the block's number grows.
func settle(b *api.IPAMBlock, cooldown time.Duration, now time.Time) {
	for at, index := range b.Allocations {
		if index == nil || *index < 0 || *index >= len(b.Attributes) {
			continue
		}
		if released := b.Attributes[*index].ReleasedAt; released != nil && !now.Before(released.Add(cooldown)) {
			free(b, at)
		}
	}
	compact(b)
	b.SequenceNumber++
}

// compact drops unused attributes, and with them their fields that this version does not know; those of the others move along.
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

// moveUnknown is where fields that this version does not know are after attributes moved; -1 means that one is gone.
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

// mend gives ordinals whose attribute does not exist one of nobody. Else the next attribute that is added would be theirs.
func mend(b *api.IPAMBlock) {
	nobodys := len(b.Attributes)
	for at, index := range b.Allocations {
		if index == nil || *index >= 0 && *index < nobodys {
			continue
		}
		if len(b.Attributes) == nobodys {
			b.Attributes = append(b.Attributes, api.IPAMAttribute{})
		}
		b.Allocations[at] = &nobodys
	}
}

// windowsHandle holds the addresses that a Windows node needs for itself in each of its blocks.
const windowsHandle = "windows-reserved-ipam-handle"

// empty says whether nobody holds an address of the block, and none is cooling down: a block that is deleted forgets that.
func empty(b *api.IPAMBlock, cooldown time.Duration, now time.Time) bool {
	for at, index := range b.Allocations {
		switch handle, taken, cooling := handleOf(b, at); {
		case !taken || strings.EqualFold(handle, windowsHandle):
		case !cooling || now.Before(b.Attributes[*index].ReleasedAt.Add(cooldown)):
			return false
		}
	}
	return true
}

package ipam

import (
	"encoding/binary"
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
	index := slices.IndexFunc(b.Attributes, func(a api.IPAMAttribute) bool {
		return a.HandleID != nil && *a.HandleID == handle && a.ReleasedAt == nil && maps.Equal(a.Secondary, secondary)
	})
	if index < 0 {
		index = len(b.Attributes)
		b.Attributes = append(b.Attributes, api.IPAMAttribute{HandleID: &handle, Secondary: secondary})
	}
	b.Allocations[at] = &index
	b.Unallocated = slices.DeleteFunc(b.Unallocated, func(free int) bool { return free == at })
	if b.SequenceNumberForAllocation == nil {
		b.SequenceNumberForAllocation = map[string]uint64{}
	}
	b.SequenceNumberForAllocation[strconv.Itoa(at)] = b.SequenceNumber
}

// release takes an ordinal from its holder. With a cooldown it stays taken, by nobody, until free is called late enough.
func release(b *api.IPAMBlock, at int, cooldown time.Duration, now time.Time) {
	if cooldown == 0 {
		free(b, at)
		return
	}
	index := len(b.Attributes)
	b.Attributes = append(b.Attributes, api.IPAMAttribute{ReleasedAt: &api.Time{Time: now.UTC().Truncate(time.Second)}})
	b.Allocations[at] = &index
	b.SequenceNumberForAllocation[strconv.Itoa(at)] = b.SequenceNumber
}

func free(b *api.IPAMBlock, at int) {
	b.Allocations[at] = nil
	b.Unallocated = append(b.Unallocated, at)
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
	if len(b.Rest) == 0 { // fields that this version does not know would lose their attribute
		compact(b)
	}
	b.SequenceNumber++
}

// compact drops unused attributes.
func compact(b *api.IPAMBlock) {
	places := make([]int, len(b.Attributes))
	for _, index := range b.Allocations {
		if index != nil && *index >= 0 && *index < len(places) {
			places[*index] = 1
		}
	}
	kept := make([]api.IPAMAttribute, 0, len(b.Attributes))
	for i, used := range places {
		places[i] = len(kept)
		if used == 1 {
			kept = append(kept, b.Attributes[i])
		}
	}
	b.Attributes = kept
	for at, index := range b.Allocations {
		if index != nil && *index >= 0 && *index < len(places) {
			b.Allocations[at] = &places[*index]
		}
	}
}

// empty says whether nobody holds an address of the block.
func empty(b *api.IPAMBlock) bool {
	for at := range b.Allocations {
		if _, taken, cooling := handleOf(b, at); taken && !cooling {
			return false
		}
	}
	return true
}

package ipam

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// Usage is how much of a pool or a block is in use. IPv6 pools have more addresses than any integer counts.
type Usage struct {
	CIDR     netip.Prefix
	Total    float64
	InUse    float64
	Reserved float64 // free, and kept from allocators by an IPReservation
	Owner    string  // of a block: host:NODE, virtual:OWNER, or empty
	Blocks   []Usage // of a pool
}

// Free is what an allocator can still give away.
func (u Usage) Free() float64 { return u.Total - u.InUse - u.Reserved }

// Assignment is an address that somebody holds.
type Assignment struct {
	Addr       netip.Addr
	Handle     string
	Attributes map[string]string
	Alternate  map[string]string // those of the machine that it moves to, while it moves
	Block      netip.Prefix
	Owner      string // of the block
}

// Borrowed says that the address is used on another node than the one that its block belongs to.
func (a Assignment) Borrowed() bool {
	node, ok := a.Attributes["node"]
	return ok && a.Owner != ownerOf(node)
}

// Usages is how much of each pool is in use, in the order of the pools' names, with the pool's blocks. Blocks whose pool is
// gone are those of a last one without a CIDR, if there are any.
func Usages(ctx context.Context, store kv.KV) ([]Usage, error) {
	reserved, err := reservations(ctx, store)
	if err != nil {
		return nil, err
	}
	var pools []Usage
	err = eachStored(ctx, store, poolRoot, api.KindIPPool, func(_ string, o api.Object) error {
		if cidr, err := netip.ParsePrefix(o.(*api.IPPool).Spec.CIDR); err == nil {
			cidr = cidr.Masked()
			pools = append(pools, Usage{CIDR: cidr, Total: sizeOf(cidr), Reserved: coveredBy(cidr, reserved)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var orphans []Usage
	err = eachBlock(ctx, store, func(b *heldBlock) error {
		at := slices.IndexFunc(pools, func(p Usage) bool { return p.CIDR.Overlaps(b.cidr) && p.CIDR.Bits() <= b.cidr.Bits() })
		u := usageOf(b, reserved)
		if at < 0 {
			orphans = append(orphans, u)
			return nil
		}
		pools[at].InUse += u.InUse
		pools[at].Reserved -= coveredBy(b.cidr, reserved) - u.Reserved
		pools[at].Blocks = append(pools[at].Blocks, u)
		return nil
	})
	if len(orphans) > 0 {
		pools = append(pools, Usage{Blocks: orphans})
	}
	return pools, err
}

func usageOf(b *heldBlock, reserved []netip.Prefix) Usage {
	u := Usage{CIDR: b.cidr, Total: sizeOf(b.cidr)}
	if b.Affinity != nil {
		u.Owner = *b.Affinity
	}
	addr := b.cidr.Addr()
	for at := range b.Allocations {
		if _, taken, _ := handleOf(b.IPAMBlock, at); taken {
			u.InUse++
		} else if slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			u.Reserved++
		}
		addr = addr.Next()
	}
	return u
}

// Assignments is every address that somebody holds, in the order of the blocks' keys.
func Assignments(ctx context.Context, store kv.KV, visit func(Assignment) error) error {
	return eachBlock(ctx, store, func(b *heldBlock) error {
		addr := b.cidr.Addr()
		for at := range b.Allocations {
			if a, ok := assignmentAt(b, at, addr); ok {
				if err := visit(a); err != nil {
					return err
				}
			}
			addr = addr.Next()
		}
		return nil
	})
}

// Lookup is who holds an address; false when nobody does.
func Lookup(ctx context.Context, store kv.KV, addr netip.Addr) (Assignment, bool, error) {
	addr = addr.Unmap()
	block, err := blockHolding(ctx, store, addr)
	if err != nil || block == nil {
		return Assignment{}, false, err
	}
	a, ok := assignmentAt(block, ordinal(block.cidr, addr), addr)
	return a, ok, nil
}

// blockHolding is the block that holds an address, whatever its size and whether or not its pool still exists; nil if there
// is none.
func blockHolding(ctx context.Context, store kv.KV, addr netip.Addr) (*heldBlock, error) {
	const sizes = 13 // a block has from 1 to 4096 addresses
	for i := range sizes {
		cidr, err := addr.Prefix(addr.BitLen() - i)
		if err != nil {
			return nil, err
		}
		entry, err := kv.Get(ctx, store, BlockKey(cidr), 0)
		if err != nil {
			return nil, err
		}
		if entry != nil {
			return readBlock(*entry)
		}
	}
	return nil, nil
}

func assignmentAt(b *heldBlock, at int, addr netip.Addr) (Assignment, bool) {
	handle, taken, cooling := handleOf(b.IPAMBlock, at)
	if !taken || cooling {
		return Assignment{}, false
	}
	a := Assignment{Addr: addr, Handle: handle, Block: b.cidr}
	if index := *b.Allocations[at]; index >= 0 && index < len(b.Attributes) {
		a.Attributes, a.Alternate = b.Attributes[index].Secondary, b.Attributes[index].AlternateOwnerAttrs
	}
	if b.Affinity != nil {
		a.Owner = *b.Affinity
	}
	return a, true
}

func eachBlock(ctx context.Context, store kv.KV, visit func(*heldBlock) error) error {
	_, err := kv.Each(ctx, store, kv.Prefix(BlockRoot), 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			block, err := readBlock(entry)
			if err != nil {
				return err
			}
			if err := visit(block); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// eachStored visits the objects below a key that can be read.
func eachStored(ctx context.Context, store kv.KV, root, kind string, visit func(name string, o api.Object) error) error {
	_, err := kv.Each(ctx, store, kv.Prefix(root), 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			if o, err := api.DecodeStored(kind, entry.Value); err == nil {
				if err := visit(strings.TrimPrefix(entry.Key, root), o); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return err
}

// reservations are the networks of every IPReservation; what cannot be read reserves nothing, as for every allocator.
func reservations(ctx context.Context, store kv.KV) ([]netip.Prefix, error) {
	var all []netip.Prefix
	_, err := kv.Each(ctx, store, kv.Prefix(reservationRoot), 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			all = append(all, reservedBy(entry.Value)...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the reservations: %w", err)
	}
	return withoutNested(all), nil
}

func reservedBy(reservation []byte) []netip.Prefix {
	var r struct {
		Spec struct{ ReservedCIDRs []string }
	}
	if json.Unmarshal(reservation, &r) != nil {
		return nil
	}
	var all []netip.Prefix
	for _, text := range r.Spec.ReservedCIDRs {
		if cidr, err := netip.ParsePrefix(text); err == nil {
			all = append(all, cidr.Masked())
		}
	}
	return all
}

// withoutNested leaves out networks that lie in others, so that no address is counted twice.
func withoutNested(all []netip.Prefix) []netip.Prefix {
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	var kept []netip.Prefix
	for _, p := range all {
		if !slices.ContainsFunc(kept, p.Overlaps) {
			kept = append(kept, p)
		}
	}
	return kept
}

// coveredBy is how many addresses of a network lie in networks that do not overlap each other.
func coveredBy(cidr netip.Prefix, others []netip.Prefix) float64 {
	n := 0.0
	for _, other := range others {
		if cidr.Overlaps(other) {
			n += min(sizeOf(cidr), sizeOf(other))
		}
	}
	return n
}

func sizeOf(cidr netip.Prefix) float64 {
	n := 1.0
	for range cidr.Addr().BitLen() - cidr.Bits() {
		n *= 2
	}
	return n
}

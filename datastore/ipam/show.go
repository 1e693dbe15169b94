package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// Usage counts the addresses of a pool or a block. The counts are floats, because IPv6 pools have more addresses than an integer holds.
type Usage struct {
	CIDR     netip.Prefix
	Total    float64 // all addresses
	InUse    float64 // allocated addresses, including those that cool down
	Reserved float64 // free addresses that an IPReservation covers
	Owner    string  // of a block: host:NODE, virtual:OWNER, or empty
	Blocks   []Usage // of a pool
}

// Free returns the number of addresses that can still be allocated.
func (u Usage) Free() float64 { return u.Total - u.InUse - u.Reserved }

// Assignment is an address with its holder.
type Assignment struct {
	Addr       netip.Addr
	Handle     string
	Attributes map[string]string
	Alternate  map[string]string // attributes of the machine that it moves to, while it moves
	Block      netip.Prefix
	Owner      string // of the block
}

// Borrowed says whether another node than the one that claimed the block uses the address.
func (a Assignment) Borrowed() bool {
	node, ok := a.Attributes["node"]
	return ok && a.Owner != ownerOf(node)
}

// Usages returns the usage of each pool and of its blocks, sorted by the names of the pools. Blocks without a pool are collected in a
// last Usage that has no CIDR.
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
		if _, allocated, _ := handleOf(b.IPAMBlock, at); allocated {
			u.InUse++
		} else if slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			u.Reserved++
		}
		addr = addr.Next()
	}
	return u
}

// Assignments visits every address that is held, sorted by block. It stops at an error of visit and returns that.
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

// Lookup returns the holder of an address; false if nobody holds it.
func Lookup(ctx context.Context, store kv.KV, addr netip.Addr) (Assignment, bool, error) {
	addr = addr.Unmap()
	block, err := blockHolding(ctx, store, addr)
	if err != nil || block == nil {
		return Assignment{}, false, err
	}
	a, ok := assignmentAt(block, ordinal(block.cidr, addr), addr)
	return a, ok, nil
}

// blockHolding returns the block that contains an address; nil if there is none. It finds blocks of any size, and blocks whose pool no
// longer exists.
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
	handle, allocated, cooling := handleOf(b.IPAMBlock, at)
	if !allocated || cooling {
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

// eachStored visits the objects below a key. It leaves out unreadable ones.
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

// reservations returns the networks of all IPReservations. An unreadable one reserves nothing, as in other allocators.
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

// reservedBy returns the networks of an IPReservation, as far as they are readable.
func reservedBy(reservation []byte) []netip.Prefix {
	networks, _ := reservedNetworks(reservation)
	return networks
}

// withoutNested leaves out networks inside of others, so that no address is counted twice.
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

// coveredBy returns the number of addresses of a network that lie in others. The others must not overlap each other.
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

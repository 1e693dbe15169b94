package datastore

import (
	"context"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strconv"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

// splitAtOnce is the largest number of pools in one commit. Each takes a write and a condition, of which etcd allows 128 by default.
const splitAtOnce = 60

// SplitPool replaces a pool by a number of equal pools that together have its addresses, and returns these. Blocks and addresses
// stay as they are. The datastore must be locked; the error is ErrUnlocked otherwise. Up to splitAtOnce pools are created in the
// commit that deletes the old pool. With more, the first commit disables the old pool and the last one deletes it; the same call
// completes an interrupted split.
func (s *Store) SplitPool(ctx context.Context, name string, parts int) ([]*api.IPPool, error) {
	locked, still, err := readLock(ctx, s.kv)
	if err == nil && !locked {
		err = ErrUnlocked
	}
	if err != nil {
		return nil, err
	}
	key := api.Key{Kind: api.KindIPPool, Name: name}
	entry, err := s.find(ctx, key)
	if err != nil {
		return nil, err
	}
	o, err := decode(key, *entry)
	if err != nil {
		return nil, UnreadableError{Key: key, Cause: err}
	}
	old := o.(*api.IPPool)
	api.Default(old)
	cidrs, err := splitCIDR(old, parts)
	if err != nil {
		return nil, err
	}
	if err := s.blocksFit(ctx, cidrs); err != nil {
		return nil, err
	}
	var pools []*api.IPPool
	for i, cidr := range cidrs {
		pool, err := splitPart(old, i, cidr)
		if err != nil {
			return nil, err
		}
		pools = append(pools, pool)
	}
	missing, err := s.missingParts(ctx, pools)
	if err != nil {
		return nil, err
	}
	return pools, s.replacePool(ctx, still, entry, old, missing)
}

// splitCIDR divides the network of a pool into equal parts. A part is never smaller than a block.
func splitCIDR(pool *api.IPPool, parts int) ([]netip.Prefix, error) {
	cidr, err := netip.ParsePrefix(pool.Spec.CIDR)
	if err != nil {
		return nil, fmt.Errorf("split IPPool(%s): %q is not a CIDR", pool.Name, pool.Spec.CIDR)
	}
	cidr = cidr.Masked()
	power := 0
	for 1<<power < parts && power < 62 {
		power++
	}
	bits := cidr.Bits() + power
	fail := func(reason string) error {
		return fmt.Errorf("error splitting the CIDR %v into %d CIDRs: %s", cidr, parts, reason)
	}
	switch most := pool.Spec.BlockSize - cidr.Bits(); {
	case parts < 2 || 1<<power != parts:
		return nil, fail(fmt.Sprintf("number to split CIDR into is not a valid power of 2: %d", parts))
	case bits > pool.Spec.BlockSize && most > 0:
		return nil, fail(fmt.Sprintf("a part would be smaller than the pool's blocks, which are /%d: want at most %d", pool.Spec.BlockSize, 1<<min(most, 30)))
	case bits > pool.Spec.BlockSize:
		return nil, fail(fmt.Sprintf("the pool is a single block of /%d, which cannot be split", pool.Spec.BlockSize))
	case power > mostParts:
		return nil, fail(fmt.Sprintf("want at most %d", 1<<mostParts))
	}
	var all []netip.Prefix
	at := new(big.Int).SetBytes(cidr.Addr().AsSlice())
	step := new(big.Int).Lsh(big.NewInt(1), uint(cidr.Addr().BitLen()-bits))
	for range parts {
		addr, _ := netip.AddrFromSlice(at.FillBytes(make([]byte, len(cidr.Addr().AsSlice()))))
		all = append(all, netip.PrefixFrom(addr, bits))
		at.Add(at, step)
	}
	return all, nil
}

// mostParts is the largest number of parts, as a power of two. Every allocator reads all pools for each allocation.
const mostParts = 12

// blocksFit returns an error if a block lies in several parts. Blocks larger than the block size may be older than their pool.
func (s *Store) blocksFit(ctx context.Context, parts []netip.Prefix) error {
	_, err := kv.Each(ctx, s.kv, kv.Prefix(ipam.BlockRoot), 0, func(page Page) error {
		for _, entry := range page.Entries {
			block, ok := ipam.ParseBlockKey(entry.Key)
			if ok && block.Bits() < parts[0].Bits() && slices.ContainsFunc(parts, block.Overlaps) {
				return fmt.Errorf("the block %v would be in several of the new pools of /%d: release its addresses first, or split into fewer pools",
					block, parts[0].Bits())
			}
		}
		return nil
	})
	return err
}

// splitPart returns the new pool for part number i.
func splitPart(old *api.IPPool, i int, cidr netip.Prefix) (*api.IPPool, error) {
	part := deep(old).(*api.IPPool)
	part.UID, part.ResourceVersion, part.SelfLink, part.CreationTimestamp = "", "", "", api.Time{}
	const longest = 253
	number := "-" + strconv.Itoa(i)
	name := "split-" + old.Name
	part.Name = name[:min(len(name), longest-len(number))] + number
	part.Spec.CIDR, part.Spec.Disabled = cidr.String(), false
	o, err := prepare(part)
	if err != nil {
		return nil, fmt.Errorf("make IPPool(%s): %w", part.Name, err)
	}
	identify(o.Meta())
	return o.(*api.IPPool), nil
}

// missingParts returns the parts that do not exist yet. Others may exist from an interrupted split.
func (s *Store) missingParts(ctx context.Context, parts []*api.IPPool) ([]*api.IPPool, error) {
	var missing []*api.IPPool
	for _, part := range parts {
		o, err := s.Get(ctx, api.KeyOf(part))
		if isNotFound(err) {
			missing = append(missing, part)
			continue
		}
		if err != nil {
			return nil, err
		}
		if is := o.(*api.IPPool).Spec.CIDR; is != part.Spec.CIDR {
			return nil, fmt.Errorf("IPPool(%s) exists and has the CIDR %s, not %s: if an interrupted split into another number created it, "+
				"split into that number; else rename one of the pools", part.Name, is, part.Spec.CIDR)
		}
	}
	return missing, nil
}

// replacePool creates the missing parts of a pool and deletes the pool, all under the condition that lock has not changed.
func (s *Store) replacePool(ctx context.Context, lock Condition, entry *Entry, old *api.IPPool, missing []*api.IPPool) error {
	revision := entry.Revision
	for first := true; first || len(missing) > 0; first = false {
		some := missing[:min(splitAtOnce, len(missing))]
		missing = missing[len(some):]
		conditions := []Condition{lock, {Key: entry.Key, Revision: revision}}
		var writes []Write
		for _, part := range some {
			value, err := encode(part)
			if err != nil {
				return err
			}
			path := ResourceKey(api.KeyOf(part))
			conditions = append(conditions, Condition{Key: path})
			writes = append(writes, Write{Key: path, Value: value})
		}
		disables := false
		switch {
		case len(missing) == 0:
			writes = append(writes, Write{Key: entry.Key, Delete: true})
		case !old.Spec.Disabled:
			disabled := shallow(old).(*api.IPPool)
			disabled.Spec.Disabled = true
			value, err := encodeOver(api.KeyOf(old), entry, disabled)
			if err != nil {
				return err
			}
			writes = append(writes, Write{Key: entry.Key, Value: value})
			old, disables = disabled, true
		}
		outcome, err := s.commit(ctx, conditions, writes)
		switch {
		case err != nil:
			return fmt.Errorf("split %v: %w", api.KeyOf(old), err)
		case !outcome.Done:
			return fmt.Errorf("split %v: %w: the pool, one of the new pools or the datastore's lock was changed meanwhile: split again",
				api.KeyOf(old), ConflictError{Key: api.KeyOf(old)})
		case disables:
			revision = outcome.Revision
		}
	}
	return nil
}

package datastore

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

// poolFits returns an error if a new pool overlaps another pool, or if a block inside of it has another block size. The conditions
// hold if no pool has changed since the check.
func (s *Store) poolFits(ctx context.Context, pool *api.IPPool) ([]Condition, error) {
	cidr, err := netip.ParsePrefix(pool.Spec.CIDR)
	if err != nil {
		return nil, invalid("spec.cidr", pool.Spec.CIDR, "not a CIDR")
	}
	pools := kv.Prefix(resourceRoot + "ippools/")
	poolsAt, err := kv.Each(ctx, s.kv, pools, 0, func(page Page) error {
		for _, entry := range page.Entries {
			key, _, _ := parseKey(entry.Key)
			other, _ := decode(key, entry)
			o, ok := other.(*api.IPPool)
			if !ok || key.Name == pool.Name {
				continue
			}
			if c, err := netip.ParsePrefix(o.Spec.CIDR); err == nil && c.Overlaps(cidr) {
				return invalid("spec.cidr", pool.Spec.CIDR, fmt.Sprintf("IPPool(%s) CIDR overlaps with IPPool(%s) CIDR %s", pool.Name, o.Name, o.Spec.CIDR))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	blocks := kv.Prefix(ipam.BlockRoot)
	_, err = kv.Each(ctx, s.kv, blocks, 0, func(page Page) error {
		for _, entry := range page.Entries {
			block, ok := ipam.ParseBlockKey(entry.Key)
			if ok && cidr.Overlaps(block) && block.Bits() != pool.Spec.BlockSize {
				return invalid("spec.blockSize", fmt.Sprint(pool.Spec.BlockSize), fmt.Sprintf("IPAM block %v with another block size exists in the pool: release it, or use its block size", block))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// No condition is needed for blocks: a block of this pool can appear only after the pool exists.
	return []Condition{{Span: pools, Revision: poolsAt}}, nil
}

// poolKeepsShape returns an error if an update changes a field that the blocks of the pool depend on.
func poolKeepsShape(old, pool *api.IPPool) error {
	was, errWas := netip.ParsePrefix(old.Spec.CIDR)
	is, errIs := netip.ParsePrefix(pool.Spec.CIDR)
	if errIs != nil || errWas == nil && was.Masked() != is.Masked() {
		return invalid("spec.cidr", pool.Spec.CIDR, "IPPool CIDR cannot be modified")
	}
	if old.Spec.BlockSize != pool.Spec.BlockSize {
		return invalid("spec.blockSize", fmt.Sprint(pool.Spec.BlockSize), "IPPool BlockSize cannot be modified")
	}
	const balancer = "LoadBalancer"
	if slices.Contains(old.Spec.AllowedUses, balancer) != slices.Contains(pool.Spec.AllowedUses, balancer) {
		return invalid("spec.allowedUses", fmt.Sprint(pool.Spec.AllowedUses), "LoadBalancer use cannot be added or removed")
	}
	return nil
}

// drainPool prepares a pool for deletion: it disables the pool, so that no allocator claims a block of it, waits disableTime, and
// releases its blocks.
func (s *Store) drainPool(ctx context.Context, key api.Key, entry *Entry, pool *api.IPPool) (changed bool, err error) {
	if !pool.Spec.Disabled && s.together {
		return false, SeveralStepsError{key, "allocators must see that the pool is disabled before its blocks are released: disable it first " +
			"(margayctl patch ippool " + key.Name + " -p '{\"spec\": {\"disabled\": true}}'), or delete it by itself"}
	}
	if !pool.Spec.Disabled {
		disabled := shallow(pool).(*api.IPPool)
		disabled.Spec.Disabled = true
		value, err := encodeOver(key, entry, disabled)
		if err != nil {
			return false, err
		}
		outcome, err := s.overwrite(ctx, key, entry, nil, value)
		if err != nil {
			return false, fmt.Errorf("disable %v before its deletion: %w", key, err)
		}
		if !outcome.Done {
			return false, ConflictError{Key: key}
		}
		changed = true
		select {
		case <-time.After(disableTime):
		case <-ctx.Done():
			return changed, ctx.Err()
		}
	}
	cidr, err := netip.ParsePrefix(pool.Spec.CIDR)
	if err != nil {
		return changed, nil
	}
	return changed, ipam.ReleasePool(ctx, s.kv, cidr)
}

func isNotFound(err error) bool {
	var notFound NotFoundError
	return errors.As(err, &notFound)
}

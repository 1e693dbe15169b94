package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// ReleasePool releases the claims on all blocks of a pool. Empty blocks are deleted, others stay without an owner.
func ReleasePool(ctx context.Context, store kv.KV, pool netip.Prefix) error {
	return releaseAffinities(ctx, store, []string{AffinityRoot, virtualRoot}, func(_ string, cidr netip.Prefix) bool {
		return pool.Overlaps(cidr)
	})
}

// ReleaseNode releases the tunnel addresses of a node, the addresses in addrs, and the claims of the node on blocks.
func ReleaseNode(ctx context.Context, store kv.KV, node string, addrs []netip.Addr) error {
	for _, tunnel := range []string{"ipip", "vxlan", "vxlan-v6", "wireguard", "wireguard-v6"} {
		if err := Release(ctx, store, tunnel+"-tunnel-addr-"+node); err != nil {
			return err
		}
	}
	for _, addr := range addrs {
		if err := ReleaseAddress(ctx, store, addr); err != nil {
			return err
		}
	}
	err := releaseAffinities(ctx, store, []string{AffinityRoot + node + "/"}, func(owner string, _ netip.Prefix) bool {
		return owner == ownerOf(node)
	})
	if err != nil {
		return err
	}
	_, err = store.Commit(ctx, nil, []kv.Write{{Key: AffinityRoot + node, Delete: true}})
	return err
}

// ReleaseAddress releases one address, for any holder. It is no error if nobody holds it.
func ReleaseAddress(ctx context.Context, store kv.KV, addr netip.Addr) error {
	return releaseIf(ctx, store, addr, func(string) bool { return true })
}

// ReleaseHeld releases one address if the handle holds it, and changes nothing otherwise.
func ReleaseHeld(ctx context.Context, store kv.KV, addr netip.Addr, handle string) error {
	return releaseIf(ctx, store, addr, func(holder string) bool { return holder == trimHandle(handle) })
}

// releaseIf releases one address if its holder is the right one.
func releaseIf(ctx context.Context, store kv.KV, addr netip.Addr, right func(handle string) bool) error {
	addr = addr.Unmap()
	for range attempts {
		done, err := tryReleaseAddress(ctx, store, addr, right)
		if err != nil {
			return fmt.Errorf("release %v: %w", addr, err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("release %v: %w", addr, errContended)
}

func tryReleaseAddress(ctx context.Context, store kv.KV, addr netip.Addr, right func(handle string) bool) (bool, error) {
	config, err := readSettings(ctx, store)
	if err != nil {
		return false, err
	}
	block, err := blockHolding(ctx, store, addr)
	if err != nil || block == nil {
		return block == nil, err
	}
	at, now := ordinal(block.cidr, addr), time.Now()
	id, allocated, cooling := handleOf(block.IPAMBlock, at)
	if !allocated || cooling || !right(id) {
		return true, nil
	}
	release(block.IPAMBlock, at, now)
	finish(block.IPAMBlock, config.cooldown(), now)
	return commitReleased(ctx, store, block, map[string]int{id: 1})
}

// releaseAffinities releases the claims below roots for which which returns true.
func releaseAffinities(ctx context.Context, store kv.KV, roots []string, which func(owner string, cidr netip.Prefix) bool) error {
	for _, root := range roots {
		var keys []string
		_, err := kv.Each(ctx, store, kv.Prefix(root), 0, func(page kv.Page) error {
			for _, entry := range page.Entries {
				keys = append(keys, entry.Key)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, key := range keys {
			owner, cidr, ok := parseClaimKey(key)
			if !ok || !which(owner, cidr) {
				continue
			}
			if err := releaseAffinity(ctx, store, key, owner, cidr); err != nil {
				return fmt.Errorf("release block %v of %s: %w", cidr, owner, err)
			}
		}
	}
	return nil
}

func releaseAffinity(ctx context.Context, store kv.KV, key, owner string, cidr netip.Prefix) error {
	for range attempts {
		done, err := tryReleaseAffinity(ctx, store, key, owner, cidr)
		if done || err != nil {
			return err
		}
	}
	return errContended
}

func tryReleaseAffinity(ctx context.Context, store kv.KV, key, owner string, cidr netip.Prefix) (bool, error) {
	config, err := readSettings(ctx, store)
	if err != nil {
		return false, err
	}
	affinity, err := kv.Get(ctx, store, key, 0)
	if err != nil || affinity == nil {
		return err == nil, err
	}
	entry, err := kv.Get(ctx, store, BlockKey(cidr), 0)
	if err != nil {
		return false, err
	}
	parts := []stored{deletion{key, affinity.Revision}}
	if entry != nil {
		block, err := readBlock(*entry)
		switch {
		case err != nil:
			return false, err
		case block.Affinity == nil || *block.Affinity != owner:
			// The block has another owner: delete only the claim.
		case empty(block.IPAMBlock, config.cooldown(), time.Now()):
			parts = append(parts, deletion{entry.Key, entry.Revision})
		default:
			disown(block.IPAMBlock)
			parts = append(parts, block)
		}
	}
	return commit(ctx, store, parts...)
}

func disown(b *api.IPAMBlock) {
	b.Affinity, b.AffinityClaimTime = nil, nil
	b.SequenceNumber++
}

// deletion is the part of a commit that deletes a key.
type deletion struct {
	key      string
	revision int64
}

func (d deletion) write() (kv.Condition, kv.Write, error) {
	return kv.Condition{Key: d.key, Revision: d.revision}, kv.Write{Key: d.key, Delete: true}, nil
}

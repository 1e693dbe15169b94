package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// ErrNoPool says that an address is in no pool, so no allocator can allocate it and there is nothing to record.
var ErrNoPool = errors.New("no IPPool holds the address")

// Reserve records an address that an operator gave to a workload, so that no allocator allocates it a second time. It claims the
// address's block for the node if the block has no owner. It does not change an address that is allocated, to any handle.
func Reserve(ctx context.Context, store kv.KV, node string, addr netip.Addr, handle string, attributes map[string]string) error {
	addr = addr.Unmap()
	for range attempts {
		done, err := tryReserve(ctx, store, node, addr, handle, attributes)
		if err != nil {
			return fmt.Errorf("reserve %v for %s: %w", addr, handle, err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("reserve %v for %s: %w", addr, handle, errContended)
}

// tryReserve makes one step. It returns false if another step is needed.
func tryReserve(ctx context.Context, store kv.KV, node string, addr netip.Addr, handle string, attributes map[string]string) (bool, error) {
	pool, err := poolOf(ctx, store, addr)
	if err != nil {
		return false, err
	}
	if pool == nil {
		return false, ErrNoPool
	}
	config, err := readSettings(ctx, store)
	if err != nil {
		return false, err
	}
	block, err := blockOf(ctx, store, addr, pool.Spec.BlockSize)
	if err != nil {
		return false, err
	}
	if block == nil {
		switch {
		case pool.Spec.Disabled:
			return false, fmt.Errorf("IPPool %s is disabled: enable it, or use an address of another pool", pool.Name)
		case !config.AutoAllocateBlocks:
			return false, fmt.Errorf("no block holds the address, and the IPAM configuration forbids nodes to claim one: set auto_allocate_blocks, or use an address of an existing block")
		}
		cidr, err := addr.Prefix(pool.Spec.BlockSize)
		if err != nil {
			return false, err
		}
		return false, claim(ctx, store, node, cidr)
	}
	if block.Affinity == nil && !pool.Spec.Disabled && config.AutoAllocateBlocks && isBlockOf(pool, block.cidr) {
		return false, adopt(ctx, store, node, block)
	}
	at := ordinal(block.cidr, addr)
	if _, allocated, cooling := handleOf(block.IPAMBlock, at); allocated && !cooling {
		return true, nil
	}
	if owner := block.Affinity; config.StrictAffinity && (owner == nil || *owner != ownerOf(node)) {
		return false, fmt.Errorf("its block %v belongs to %s and strict affinity is set: use an address of a block of node %s",
			block.cidr, describe(owner), node)
	}
	return assignIn(ctx, store, block, at, handle, attributes, config)
}

// isBlockOf says whether an allocator would create this block for the pool.
func isBlockOf(pool *api.IPPool, block netip.Prefix) bool {
	cidr, err := netip.ParsePrefix(pool.Spec.CIDR)
	return err == nil && cidr.Contains(block.Addr()) && block.Bits() == pool.Spec.BlockSize
}

func describe(owner *string) string {
	if owner == nil {
		return "nobody"
	}
	return *owner
}

func assignIn(ctx context.Context, store kv.KV, block *heldBlock, at int, id string, attributes map[string]string, config settings) (bool, error) {
	handle, err := readHandle(ctx, store, id)
	if err != nil {
		return false, err
	}
	now := time.Now()
	assign(block.IPAMBlock, at, id, attributes)
	finish(block.IPAMBlock, config.cooldown(), now)
	handle.add(block.cidr, 1)
	return commit(ctx, store, handle, block)
}

// claim creates a block that the node owns, unless another allocator is faster.
func claim(ctx context.Context, store kv.KV, node string, cidr netip.Prefix) error {
	key := AffinityKey(node, cidr)
	affinity, err := kv.Get(ctx, store, key, 0)
	if err != nil {
		return err
	}
	block := &heldBlock{IPAMBlock: newBlock(cidr, node, time.Now()), cidr: cidr, entry: kv.Entry{Key: BlockKey(cidr)}}
	return ignoreDone(commit(ctx, store, &affinityState{State: confirmed, key: key, revision: kv.RevisionOf(affinity)}, block))
}

// adopt makes the node the owner of a block without an owner, unless another allocator is faster. Such a block remains after its pool
// was deleted while its addresses were in use.
func adopt(ctx context.Context, store kv.KV, node string, block *heldBlock) error {
	key := AffinityKey(node, block.cidr)
	affinity, err := kv.Get(ctx, store, key, 0)
	if err != nil {
		return err
	}
	own(block.IPAMBlock, node, time.Now())
	return ignoreDone(commit(ctx, store, &affinityState{State: confirmed, key: key, revision: kv.RevisionOf(affinity)}, block))
}

// confirmed is the state of a claim that counts.
const confirmed = "confirmed"

// stateOf returns the state of a stored claim; empty for a value of a very old version, and for an unreadable one.
func stateOf(value []byte) string {
	var a affinityState
	_ = json.Unmarshal(value, &a)
	return a.State
}

// affinityState is a node's claim on a block.
type affinityState struct {
	State   string `json:"state"`
	Deleted bool   `json:"deleted"`

	key      string
	revision int64
}

func (a *affinityState) write() (kv.Condition, kv.Write, error) {
	value, err := json.Marshal(a)
	return kv.Condition{Key: a.key, Revision: a.revision}, kv.Write{Key: a.key, Value: value}, err
}

func ignoreDone(_ bool, err error) error { return err }

// stored is a value that a commit writes if it has not changed since it was read.
type stored interface {
	write() (kv.Condition, kv.Write, error)
}

// commit writes all parts in one commit. It returns false if one of them has changed since it was read.
func commit(ctx context.Context, store kv.KV, parts ...stored) (bool, error) {
	return commitIf(ctx, store, nil, parts...)
}

// commitIf is commit with further conditions.
func commitIf(ctx context.Context, store kv.KV, further []kv.Condition, parts ...stored) (bool, error) {
	conditions := slices.Clone(further)
	var writes []kv.Write
	for _, part := range parts {
		condition, write, err := part.write()
		if err != nil {
			return false, err
		}
		conditions, writes = append(conditions, condition), append(writes, write)
	}
	outcome, err := store.Commit(ctx, conditions, writes)
	return outcome.Done, err
}

// Release releases every address that a handle holds. It is no error if it holds none.
//
// The count of a handle may be higher than the number of its addresses in blocks: another client may be between the two writes of a
// change, or may have died there. Release leaves such a count: the other client may be about to correct it.
func Release(ctx context.Context, store kv.KV, handle string) error {
	for range attempts {
		done, err := releaseHeld(ctx, store, handle)
		if err != nil {
			return fmt.Errorf("release %s: %w", handle, err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("release %s: %w", handle, errContended)
}

// releaseHeld makes one step for each block that a handle counts. It returns true if there was nothing to do.
func releaseHeld(ctx context.Context, store kv.KV, id string) (done bool, err error) {
	held, err := readHandle(ctx, store, id)
	if err != nil || held.revision == 0 {
		return err == nil, err
	}
	if len(held.Block) == 0 {
		return commit(ctx, store, held)
	}
	done = true
	for _, name := range slices.Sorted(maps.Keys(held.Block)) {
		cidr, err := netip.ParsePrefix(name)
		if err != nil {
			return false, err
		}
		nothing, err := releaseIn(ctx, store, cidr, id)
		if err != nil {
			return false, err
		}
		done = done && nothing
	}
	return done, nil
}

// releaseIn releases the addresses of a handle in a block, unless one of the two changes meanwhile. It returns true if the handle
// holds nothing there.
func releaseIn(ctx context.Context, store kv.KV, cidr netip.Prefix, id string) (nothing bool, err error) {
	config, err := readSettings(ctx, store)
	if err != nil {
		return false, err
	}
	entry, err := kv.Get(ctx, store, BlockKey(cidr), 0)
	if err != nil || entry == nil {
		return err == nil, err
	}
	block, err := readBlock(*entry)
	if err != nil {
		return false, err
	}
	now, n := time.Now(), 0
	for at := range block.Allocations {
		if holder, allocated, cooling := handleOf(block.IPAMBlock, at); allocated && !cooling && holder == trimHandle(id) {
			release(block.IPAMBlock, at, now)
			n++
		}
	}
	if n == 0 {
		return true, nil
	}
	finish(block.IPAMBlock, config.cooldown(), now)
	return false, ignoreDone(commitReleased(ctx, store, block, map[string]int{id: n}))
}

package ipam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/datastore/kv"
)

// Leak is a leaked allocation. Handle and Sequence distinguish it from a later allocation of the same address.
type Leak struct {
	Addr     netip.Addr
	Handle   string
	Sequence uint64
}

// Freed says what happened to leaks.
type Freed struct {
	Released []netip.Addr
	Gone     []netip.Addr // they are not allocated any more
	Kept     []netip.Addr // they have a new holder, or are in use now
}

// perCommit is the largest number of addresses that one commit releases. Each may have a handle of its own, which takes a write and a
// condition.
const perCommit = 60

// ReleaseLeaks releases leaks of an earlier check that are still the same allocations. c is a new check: addresses that are in use
// according to it stay. Leaks of one block are released in one commit, up to perCommit. With an error, the leaks that Freed does
// not name are unchanged.
func (c *Check) ReleaseLeaks(ctx context.Context, store kv.KV, leaks []Leak) (Freed, error) {
	var freed Freed
	if err := c.Blind(); err != nil {
		return freed, err
	}
	byBlock := map[netip.Prefix][]Leak{}
	for _, leak := range leaks {
		now := slices.IndexFunc(c.Allocations[leak.Addr], func(a *Allocation) bool { return leak.is(a.Handle, a.Sequence) })
		switch allocations := c.Allocations[leak.Addr]; {
		case slices.ContainsFunc(allocations, func(a *Allocation) bool { return a.Standing.Held() }):
			freed.Kept = append(freed.Kept, leak.Addr)
		case now >= 0:
			block := allocations[now].Block
			byBlock[block] = append(byBlock[block], leak)
		case slices.ContainsFunc(allocations, func(a *Allocation) bool { return a.Standing == Leaked }):
			freed.Kept = append(freed.Kept, leak.Addr)
		default:
			freed.Gone = append(freed.Gone, leak.Addr)
		}
	}
	var failures error
	for _, block := range slices.SortedFunc(maps.Keys(byBlock), netip.Prefix.Compare) {
		for some := range slices.Chunk(byBlock[block], perCommit) {
			err := freed.release(ctx, store, block, some)
			if err == nil {
				continue
			}
			failures = errors.Join(failures, fmt.Errorf("release leaked addresses of block %v: %w", block, err))
			if !errors.As(err, new(damagedError)) {
				return freed, failures // an error of the datastore, which would fail for the other blocks too
			}
		}
	}
	return freed, failures
}

// is says whether an allocation of the leak's address is the leaked one.
func (l Leak) is(handle string, sequence uint64) bool {
	return l.Handle == handle && l.Sequence == sequence
}

// release releases leaks of one block in one commit.
func (f *Freed) release(ctx context.Context, store kv.KV, cidr netip.Prefix, leaks []Leak) error {
	for range attempts {
		freed, done, err := tryReleaseLeaks(ctx, store, cidr, leaks)
		if err != nil {
			return err
		}
		if done {
			f.Released = append(f.Released, freed.Released...)
			f.Gone = append(f.Gone, freed.Gone...)
			f.Kept = append(f.Kept, freed.Kept...)
			return nil
		}
	}
	return errContended
}

func tryReleaseLeaks(ctx context.Context, store kv.KV, cidr netip.Prefix, leaks []Leak) (freed Freed, done bool, err error) {
	config, err := readSettings(ctx, store)
	if err != nil {
		return freed, false, err
	}
	entry, err := kv.Get(ctx, store, BlockKey(cidr), 0)
	if err != nil {
		return freed, false, err
	}
	if entry == nil {
		for _, leak := range leaks {
			freed.Gone = append(freed.Gone, leak.Addr)
		}
		return freed, true, nil
	}
	block, err := readBlock(*entry)
	if err != nil {
		return freed, false, err
	}
	now := time.Now()
	given := map[string]int{} // by handle
	for _, leak := range leaks {
		at := ordinal(cidr, leak.Addr)
		switch handle, allocated, cooling := handleOf(block.IPAMBlock, at); {
		case !allocated || cooling:
			freed.Gone = append(freed.Gone, leak.Addr)
		case !leak.is(handle, numberOf(block.IPAMBlock, at)):
			freed.Kept = append(freed.Kept, leak.Addr)
		default:
			release(block.IPAMBlock, at, now)
			given[handle]++
			freed.Released = append(freed.Released, leak.Addr)
		}
	}
	if len(freed.Released) == 0 {
		return freed, true, nil
	}
	finish(block.IPAMBlock, config.cooldown(), now)
	done, err = commitReleased(ctx, store, block, given)
	return freed, done, err
}

// commitReleased stores a block after a release, and the handles. given holds the number of released addresses by handle. It deletes a
// block without an owner when its last address is free: no other program would.
func commitReleased(ctx context.Context, store kv.KV, block *heldBlock, given map[string]int) (bool, error) {
	var parts []stored
	for _, id := range slices.Sorted(maps.Keys(given)) {
		if id == "" {
			continue
		}
		handle, err := readHandle(ctx, store, id)
		if err != nil {
			return false, err
		}
		handle.add(block.cidr, -given[id])
		parts = append(parts, handle)
	}
	if block.Affinity == nil && !slices.ContainsFunc(block.Allocations, func(index *int) bool { return index != nil }) {
		return commit(ctx, store, append(parts, deletion{block.entry.Key, block.entry.Revision})...)
	}
	return commit(ctx, store, append(parts, block)...)
}

// ReleaseHandle deletes a leaked handle of an earlier check, if it has not changed and no block names it now. It returns false
// otherwise.
func (c *Check) ReleaseHandle(ctx context.Context, store kv.KV, handle Handle) (bool, error) {
	if !slices.Contains(c.LeakedHandles, handle) {
		return false, nil
	}
	done, err := commit(ctx, store, deletion{key: handleRoot + handle.ID, revision: handle.Revision})
	if err != nil {
		return false, fmt.Errorf("delete handle %s: %w", handle.ID, err)
	}
	return done, nil
}

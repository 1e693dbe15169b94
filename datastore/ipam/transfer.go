package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/margay-project/margay/datastore/kv"
)

// Transfer moves an address from one handle to another in one commit, so that no allocator can allocate it in between. It returns
// false, and changes nothing, if the first handle does not hold the address. If both handles are the same, only the attributes
// change.
func Transfer(ctx context.Context, store kv.KV, addr netip.Addr, from, to string, attributes map[string]string) (bool, error) {
	addr = addr.Unmap()
	for range attempts {
		held, done, err := tryTransfer(ctx, store, addr, from, to, attributes)
		if err != nil {
			return false, fmt.Errorf("move %v from %s to %s: %w", addr, from, to, err)
		}
		if done {
			return held, nil
		}
	}
	return false, fmt.Errorf("move %v from %s to %s: %w", addr, from, to, errContended)
}

func tryTransfer(ctx context.Context, store kv.KV, addr netip.Addr, from, to string, attributes map[string]string) (held, done bool, err error) {
	config, err := readSettings(ctx, store)
	if err != nil {
		return false, false, err
	}
	block, err := blockHolding(ctx, store, addr)
	if err != nil || block == nil {
		return false, true, err
	}
	at := ordinal(block.cidr, addr)
	if holder, allocated, cooling := handleOf(block.IPAMBlock, at); !allocated || cooling || holder != from {
		return false, true, nil
	}
	assign(block.IPAMBlock, at, to, attributes)
	finish(block.IPAMBlock, config.cooldown(), time.Now())
	parts := []stored{block}
	if from != to {
		for id, n := range map[string]int{from: -1, to: 1} {
			handle, err := readHandle(ctx, store, id)
			if err != nil {
				return false, false, err
			}
			handle.add(block.cidr, n)
			parts = append(parts, handle)
		}
	}
	done, err = commit(ctx, store, parts...)
	return true, done, err
}

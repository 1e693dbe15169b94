package ipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// attempts bounds how often a change is tried anew because another allocator was faster.
const attempts = 100

var errContended = errors.New("others change the same addresses all the time: try again")

// settings are the global settings, as stored.
type settings struct {
	StrictAffinity     bool `json:"strict_affinity"`
	AutoAllocateBlocks bool `json:"auto_allocate_blocks"`
	CooldownSeconds    int  `json:"ipCooldownSeconds"`
}

func (s settings) cooldown() time.Duration { return time.Duration(s.CooldownSeconds) * time.Second }

func readSettings(ctx context.Context, store kv.KV) (settings, error) {
	s := settings{AutoAllocateBlocks: true}
	entry, err := kv.Get(ctx, store, configKey, 0)
	if err != nil || entry == nil {
		return s, err
	}
	s.AutoAllocateBlocks = false // in a stored value, leaving it out means no
	if err := json.Unmarshal(entry.Value, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", configKey, err)
	}
	return s, nil
}

// poolOf is the pool that holds an address; nil if there is none.
func poolOf(ctx context.Context, store kv.KV, addr netip.Addr) (*api.IPPool, error) {
	var found *api.IPPool
	_, err := kv.Each(ctx, store, kv.Prefix(poolRoot), 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			o, err := api.DecodeStored(api.KindIPPool, entry.Value)
			pool, ok := o.(*api.IPPool)
			if err != nil || !ok {
				continue
			}
			pool.Name = strings.TrimPrefix(entry.Key, poolRoot)
			if cidr, err := netip.ParsePrefix(pool.Spec.CIDR); err == nil && cidr.Contains(addr) {
				found = pool
			}
		}
		return nil
	})
	if found != nil && found.Spec.BlockSize == 0 {
		found.Spec.BlockSize = 26
		if addr.Is6() {
			found.Spec.BlockSize = 122
		}
	}
	return found, err
}

// damagedError says that a stored value cannot be read, which concerns no other.
type damagedError struct{ error }

func (e damagedError) Unwrap() error { return e.error }

// heldBlock is a block with what a commit needs to know about it.
type heldBlock struct {
	*api.IPAMBlock
	cidr  netip.Prefix
	entry kv.Entry
}

// blockOf is the block that holds an address; nil if there is none. The pool's block size says where to look first.
func blockOf(ctx context.Context, store kv.KV, addr netip.Addr, size int) (*heldBlock, error) {
	cidr, err := addr.Prefix(size)
	if err != nil {
		return nil, fmt.Errorf("block size %d: %w", size, err)
	}
	entry, err := kv.Get(ctx, store, BlockKey(cidr), 0)
	if err != nil {
		return nil, err
	}
	if entry != nil {
		return readBlock(*entry)
	}
	// The pool may have been made anew with another size while blocks of the old one are still held.
	var found *heldBlock
	_, err = kv.Each(ctx, store, kv.Prefix(BlockRoot+family(addr)+"/"), 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			other, ok := ParseBlockKey(entry.Key)
			if !ok || !other.Overlaps(cidr) {
				continue
			}
			if !other.Contains(addr) {
				return fmt.Errorf("block %v of another size overlaps the block %v of %v: release it first", other, cidr, addr)
			}
			if found, err = readBlock(entry); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

func readBlock(entry kv.Entry) (*heldBlock, error) {
	cidr, ok := ParseBlockKey(entry.Key)
	if !ok {
		return nil, damagedError{fmt.Errorf("%s is not the key of a block", entry.Key)}
	}
	o, err := api.DecodeStored(api.KindIPAMBlock, entry.Value)
	if err != nil {
		cause, _, _ := strings.Cut(err.Error(), ";")
		return nil, damagedError{fmt.Errorf("block %v: %s: repair or delete %s", cidr, cause, entry.Key)}
	}
	b := &heldBlock{IPAMBlock: o.(*api.IPAMBlock), cidr: cidr, entry: entry}
	if size := 1 << (cidr.Addr().BitLen() - cidr.Bits()); len(b.Allocations) != size {
		return nil, damagedError{fmt.Errorf("block %v has %d places instead of %d: repair or delete %s", cidr, len(b.Allocations), size, entry.Key)}
	}
	return b, nil
}

// write is the commit's part that stores the block.
func (b *heldBlock) write() (kv.Condition, kv.Write, error) {
	value, err := api.Encode(b.IPAMBlock)
	return kv.Condition{Key: b.entry.Key, Revision: b.entry.Revision}, kv.Write{Key: b.entry.Key, Value: value}, err
}

// handleState is how many addresses of which block a handle holds.
type handleState struct {
	Block   map[string]int `json:"block"`
	Deleted bool           `json:"deleted"`

	key      string
	revision int64
}

func (h *handleState) decode(entry kv.Entry) error {
	h.key, h.revision = entry.Key, entry.Revision
	if err := json.Unmarshal(entry.Value, h); err != nil {
		return damagedError{fmt.Errorf("handle %s: %w: repair or delete %s", h.id(), err, h.key)}
	}
	return nil
}

// id is the handle's name.
func (h *handleState) id() string { return strings.TrimPrefix(h.key, handleRoot) }

func readHandle(ctx context.Context, store kv.KV, id string) (*handleState, error) {
	h := &handleState{key: handleRoot + id}
	entry, err := kv.Get(ctx, store, h.key, 0)
	if err != nil {
		return nil, err
	}
	if entry != nil {
		if err := h.decode(*entry); err != nil {
			return nil, err
		}
	}
	if h.Block == nil {
		h.Block = map[string]int{}
	}
	return h, nil
}

// add counts addresses of a block, or takes them off when n is negative.
func (h *handleState) add(cidr netip.Prefix, n int) {
	h.Block[cidr.String()] += n
	if h.Block[cidr.String()] <= 0 {
		delete(h.Block, cidr.String())
	}
}

// write is the commit's part that stores the handle, or deletes it when it holds nothing any more.
func (h *handleState) write() (kv.Condition, kv.Write, error) {
	condition := kv.Condition{Key: h.key, Revision: h.revision}
	if len(h.Block) == 0 {
		return condition, kv.Write{Key: h.key, Delete: true}, nil
	}
	value, err := json.Marshal(h)
	return condition, kv.Write{Key: h.key, Value: value}, err
}

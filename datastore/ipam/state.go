package ipam

import (
	"cmp"
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

// attempts is the largest number of tries of a change whose commit fails because another allocator was faster. Calico tries as often.
const attempts = 100

var errContended = errors.New("other programs keep changing the same addresses: try again")

// settings are the fields of Config that the allocation of addresses needs, as stored.
type settings struct {
	StrictAffinity     bool `json:"strict_affinity"`
	AutoAllocateBlocks bool `json:"auto_allocate_blocks"`
	MaxBlocksPerHost   int  `json:"maxBlocksPerHost"`
	CooldownSeconds    int  `json:"ipCooldownSeconds"`
}

// mostBlocks returns the largest number of blocks that a node claims by itself. The default is Calico's.
func (s settings) mostBlocks() int { return cmp.Or(s.MaxBlocksPerHost, 20) }

func (s settings) cooldown() time.Duration { return time.Duration(s.CooldownSeconds) * time.Second }

func readSettings(ctx context.Context, store kv.KV) (settings, error) {
	s := settings{AutoAllocateBlocks: true}
	entry, err := kv.Get(ctx, store, configKey, 0)
	if err != nil || entry == nil {
		return s, err
	}
	s.AutoAllocateBlocks = false // a stored value without the field means false
	if err := json.Unmarshal(entry.Value, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", configKey, err)
	}
	return s, nil
}

// poolOf returns the pool that contains an address; nil if there is none.
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
		found.Spec.BlockSize = defaultBlockBits(addr)
	}
	return found, err
}

// damagedError says that one stored value is unreadable. Other values may be fine.
type damagedError struct{ error }

func (e damagedError) Unwrap() error { return e.error }

// heldBlock is a block with its stored entry, for a commit.
type heldBlock struct {
	*api.IPAMBlock
	cidr    netip.Prefix
	entry   kv.Entry
	damaged error // only from lookupBlocks: the value is unreadable, and IPAMBlock is nil
}

// blockOf returns the block that contains an address; nil if there is none. size is the block size of the pool, which most blocks have.
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
	// The pool may have been deleted and created with another block size, while blocks of the old size are still in use.
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
		return nil, damagedError{fmt.Errorf("block %v has %d allocations instead of %d: repair or delete %s", cidr, len(b.Allocations), size, entry.Key)}
	}
	return b, nil
}

// write returns the part of a commit that stores the block.
func (b *heldBlock) write() (kv.Condition, kv.Write, error) {
	value, err := api.Encode(b.IPAMBlock)
	return kv.Condition{Key: b.entry.Key, Revision: b.entry.Revision}, kv.Write{Key: b.entry.Key, Value: value}, err
}

// handleState holds the number of addresses of a handle, by block.
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

// id returns the name of the handle.
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

// add adds n, which may be negative, to the count of a block.
func (h *handleState) add(cidr netip.Prefix, n int) {
	h.Block[cidr.String()] += n
	if h.Block[cidr.String()] <= 0 {
		delete(h.Block, cidr.String())
	}
}

// write returns the part of a commit that stores the handle, or deletes it if it holds no address.
func (h *handleState) write() (kv.Condition, kv.Write, error) {
	condition := kv.Condition{Key: h.key, Revision: h.revision}
	if len(h.Block) == 0 {
		return condition, kv.Write{Key: h.key, Delete: true}, nil
	}
	value, err := json.Marshal(h)
	return condition, kv.Write{Key: h.key, Value: value}, err
}

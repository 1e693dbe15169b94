package ipam

import (
	"context"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/datastore/kv"
)

// place is a block from which addresses may be taken.
type place struct {
	block  *heldBlock
	pool   *termPool
	claims bool     // the node becomes the owner of the block
	with   []stored // other values that must be written in the same commit
}

// places yields blocks in the order in which they are used, or an error.
type places func(context.Context) iter.Seq2[place, error]

// claimEntry is a stored claim of a node on a block.
type claimEntry struct {
	state    string
	revision int64
}

// claimsOf returns the claims of a node on blocks of one family.
func claimsOf(ctx context.Context, store kv.KV, node string, v4 bool) (map[netip.Prefix]claimEntry, error) {
	claims := map[netip.Prefix]claimEntry{}
	_, err := kv.Each(ctx, store, kv.Prefix(AffinityRoot+node+"/"+familyName(v4)+"/"), 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			if _, cidr, ok := ParseAffinityKey(entry.Key); ok {
				claims[cidr] = claimEntry{stateOf(entry.Value), entry.Revision}
			}
		}
		return nil
	})
	return claims, err
}

// confirm is the part of a commit that makes the node's claim on a block a confirmed one.
func (a *attempt) confirm(cidr netip.Prefix) stored {
	return &affinityState{State: confirmed, key: AffinityKey(a.request.Node, cidr), revision: a.claims[cidr].revision}
}

// ownBlocks yields the blocks that the node has claimed. A claim that is not confirmed, or whose block does not exist, is left by a
// program that died: it is completed. A claim on a block of another owner is deleted.
func (a *attempt) ownBlocks(ctx context.Context) iter.Seq2[place, error] {
	return func(yield func(place, error) bool) {
		blocks, err := a.readClaimed(ctx)
		if err != nil {
			yield(place{}, err)
			return
		}
		for _, p := range blocks {
			if !yield(p, nil) {
				return
			}
		}
	}
}

// readClaimed returns the blocks of the node in the order of the pools.
func (a *attempt) readClaimed(ctx context.Context) ([]place, error) {
	var own []place
	for _, pool := range a.pools {
		var names []netip.Prefix
		for cidr := range a.claims {
			if pool.has(cidr) {
				names = append(names, cidr)
			}
		}
		slices.SortFunc(names, netip.Prefix.Compare)
		blocks, err := lookupBlocks(ctx, a.store, names)
		if err != nil {
			return nil, err
		}
		for i, cidr := range names {
			p := place{block: blocks[i], pool: pool}
			switch {
			case p.block == nil && pool.isBlock(cidr):
				p.block = &heldBlock{IPAMBlock: newBlock(cidr, a.request.Node, a.now), cidr: cidr, entry: kv.Entry{Key: BlockKey(cidr)}}
			case p.block == nil || p.block.damaged != nil:
				continue
			case p.block.owner() != ownerOf(a.request.Node):
				if err := a.forget(ctx, p.block); err != nil {
					return nil, err
				}
				continue
			}
			if a.claims[cidr].state != confirmed || p.block.entry.Revision == 0 {
				p.with = []stored{a.confirm(cidr)}
			}
			own = append(own, p)
		}
	}
	return own, nil
}

// forget deletes the node's claim on a block that belongs to another owner. The claim is left by a program that lost a race for the
// block and died. A claim on a block without an owner stays: the node may still become the owner.
func (a *attempt) forget(ctx context.Context, b *heldBlock) error {
	if b.owner() == "" {
		return nil
	}
	claim := deletion{AffinityKey(a.request.Node, b.cidr), a.claims[b.cidr].revision}
	_, err := commitIf(ctx, a.store, []kv.Condition{{Key: b.entry.Key, Revision: b.entry.Revision}}, claim)
	delete(a.claims, b.cidr)
	return err
}

// mayClaim says whether the node may claim another block: the configuration allows it, and the node has fewer than the most.
func (a *attempt) mayClaim() bool {
	return a.config.AutoAllocateBlocks && a.claimed() < a.config.mostBlocks()
}

// claimed returns the number of blocks that the node claims in the pools.
func (a *attempt) claimed() (n int) {
	for cidr := range a.claims {
		if slices.ContainsFunc(a.pools, func(p *termPool) bool { return p.has(cidr) }) {
			n++
		}
	}
	return n
}

// newBlocks yields blocks that do not exist yet.
func (a *attempt) newBlocks(ctx context.Context) iter.Seq2[place, error] {
	return func(yield func(place, error) bool) {
		if !a.mayClaim() {
			return
		}
		all, err := a.blocks(ctx)
		if err != nil {
			yield(place{}, err)
			return
		}
		for _, pool := range a.pools {
			for cidr := range pool.walk(a.request.Node, a.reserved) {
				if all.overlaps(cidr) || coveredBy(cidr, a.reserved) == sizeOf(cidr) {
					continue
				}
				block := &heldBlock{IPAMBlock: newBlock(cidr, a.request.Node, a.now), cidr: cidr, entry: kv.Entry{Key: BlockKey(cidr)}}
				if !yield(place{block: block, pool: pool, with: []stored{a.confirm(cidr)}}, nil) {
					return
				}
			}
		}
	}
}

// ownerless yields blocks that lost their owner, because their pool was deleted while addresses were in use.
func (a *attempt) ownerless(ctx context.Context) iter.Seq2[place, error] {
	return a.existing(ctx, a.mayClaim(), func(p *place) (bool, error) {
		if p.block.owner() != "" || !p.pool.isBlock(p.block.cidr) {
			return false, nil
		}
		p.claims, p.with = true, []stored{a.confirm(p.block.cidr)}
		return true, nil
	})
}

// idleAge is the age at which an empty block of another node may be taken over. Calico waits as long. A younger one may get its first
// address soon.
const idleAge = time.Minute

// idle yields empty blocks of other nodes.
func (a *attempt) idle(ctx context.Context) iter.Seq2[place, error] {
	return a.existing(ctx, a.mayClaim(), func(p *place) (bool, error) {
		node, ofNode := strings.CutPrefix(p.block.owner(), ownerOf(""))
		thaw(p.block.IPAMBlock, a.config.cooldown(), a.now)
		inUse := slices.ContainsFunc(p.block.Allocations, func(index *int) bool { return index != nil })
		claimed := p.block.AffinityClaimTime
		if !ofNode || node == a.request.Node || inUse || !p.pool.isBlock(p.block.cidr) || claimed != nil && a.now.Sub(claimed.Time) < idleAge {
			return false, nil
		}
		former, err := kv.Get(ctx, a.store, AffinityKey(node, p.block.cidr), 0)
		if err != nil {
			return false, err
		}
		p.claims, p.with = true, []stored{a.confirm(p.block.cidr)}
		if former != nil {
			p.with = append(p.with, deletion{former.Key, former.Revision})
		}
		return true, nil
	})
}

// borrowed yields blocks of other nodes, and without an owner.
func (a *attempt) borrowed(ctx context.Context) iter.Seq2[place, error] {
	return a.existing(ctx, !a.config.StrictAffinity, func(p *place) (bool, error) {
		return !strings.HasPrefix(p.block.owner(), virtualOwner), nil
	})
}

// existing yields the existing blocks of the pools that fit, if there is a permission to use any. It begins in each pool where the
// node begins.
func (a *attempt) existing(ctx context.Context, permitted bool, fits func(*place) (bool, error)) iter.Seq2[place, error] {
	return func(yield func(place, error) bool) {
		if !permitted {
			return
		}
		all, err := a.blocks(ctx)
		if err != nil {
			yield(place{}, err)
			return
		}
		for _, pool := range a.pools {
			for _, block := range all.of(pool, a.request.Node) {
				p := place{block: block, pool: pool}
				ok, err := fits(&p)
				if (ok || err != nil) && !yield(p, err) {
					return
				}
			}
		}
	}
}

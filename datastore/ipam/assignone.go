package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/datastore/kv"
)

// AssignAddress assigns a given address to the handle of a request; its counts and pools have no effect. It is no error if the handle
// holds the address already. As in Calico, the pool need not select the node, and an IPReservation does not forbid it: somebody asks
// for this address.
func AssignAddress(ctx context.Context, store kv.KV, r Request, addr netip.Addr) error {
	if r.Node == "" || r.Handle == "" {
		return errors.New("assign an address: a node and a handle are needed")
	}
	addr = addr.Unmap()
	for conflict := range attempts {
		done, err := tryAssignAddress(ctx, store, r, addr)
		if err == nil && !done {
			err = pause(ctx, conflict+1)
		}
		if err != nil {
			return fmt.Errorf("assign %v to %s: %w", addr, r.Handle, err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("assign %v to %s: %w", addr, r.Handle, errContended)
}

func tryAssignAddress(ctx context.Context, store kv.KV, r Request, addr netip.Addr) (bool, error) {
	pool, err := poolOf(ctx, store, addr)
	if err != nil {
		return false, err
	}
	if pool == nil {
		return false, fmt.Errorf("%w: take one of a pool (margayctl get ippools), or create a pool around it", ErrNoPool)
	}
	r.Pools = []string{pool.Name}
	a, err := newAttempt(ctx, store, &r, addr.Is4())
	switch {
	case err != nil:
		return false, err
	case slices.Contains(a.held, addr):
		return true, nil
	case len(a.pools) == 0:
		return false, fmt.Errorf("%s, or take an address of another pool", a.refused[0])
	}
	p, err := a.placeOf(ctx, addr)
	if err != nil {
		return false, err
	}
	at := ordinal(p.block.cidr, addr)
	if err := a.isFree(ctx, p.block, at, addr); err != nil {
		return false, err
	}
	return a.take(ctx, p, []int{at})
}

// placeOf returns the block of an address, which may be a new one, if the node may use it.
func (a *attempt) placeOf(ctx context.Context, addr netip.Addr) (place, error) {
	p := place{pool: a.pools[0]}
	var err error
	if p.block, err = blockOf(ctx, a.store, addr, p.pool.blockBits); err != nil {
		return p, err
	}
	if p.block == nil {
		cidr, err := addr.Prefix(p.pool.blockBits)
		if err != nil {
			return p, err
		}
		p.block = &heldBlock{IPAMBlock: newBlock(cidr, a.request.Node, a.now), cidr: cidr, entry: kv.Entry{Key: BlockKey(cidr)}}
		p.with = []stored{a.confirm(cidr)}
		if _, claims := a.claims[cidr]; !claims && !a.mayClaim() {
			return p, fmt.Errorf("the block %v does not exist, and node %s may not claim it (%s)", cidr, a.request.Node, a.hindrance())
		}
		return p, nil
	}
	cidr, owner := p.block.cidr, p.block.owner()
	switch {
	case owner == "" && a.mayClaim() && p.pool.isBlock(cidr):
		p.claims, p.with = true, []stored{a.confirm(cidr)}
	case owner == ownerOf(a.request.Node) && a.claims[cidr].state != confirmed:
		p.with = []stored{a.confirm(cidr)}
	case owner != ownerOf(a.request.Node) && a.config.StrictAffinity:
		return p, fmt.Errorf("its block %v belongs to %s and strict affinity is set: use an address of a block of node %s",
			cidr, describe(p.block.Affinity), a.request.Node)
	}
	return p, nil
}

// isFree returns an error that says who has an address; nil if it is free.
func (a *attempt) isFree(ctx context.Context, b *heldBlock, at int, addr netip.Addr) error {
	thaw(b.IPAMBlock, a.config.cooldown(), a.now)
	switch holder, allocated, cooling := handleOf(b.IPAMBlock, at); {
	case cooling:
		left := b.Attributes[*b.Allocations[at]].ReleasedAt.Add(a.config.cooldown()).Sub(a.now)
		return fmt.Errorf("it was released a short time ago and cools down for another %v: wait, or take another address", left.Round(time.Second))
	case allocated && holder == "":
		return errors.New("it is assigned, without a handle: margayctl ipam show --ip shows to whom")
	case allocated:
		return fmt.Errorf("%s holds it: release it there, or take another address", holder)
	case a.request.InUse == nil:
		return nil
	}
	used, err := a.request.InUse(ctx, []netip.Addr{addr})
	if err == nil && used[addr] {
		err = errors.New("a WorkloadEndpoint or Node has it already, although IPAM does not know that yet: take another address")
	}
	return err
}

package ipam

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/margay-project/margay/datastore/kv"
)

// Request asks for addresses for one handle. The counts include addresses that the handle holds already: a request that is repeated,
// because its answer was lost or its program has died, assigns no address twice and leaks none.
type Request struct {
	Node       string            // that uses the addresses; blocks are claimed for it
	Namespace  string            // of the workload; empty if there is none
	Handle     string            // names the holder
	Attributes map[string]string // details about the holder
	Pools      []string          // names of the pools; empty: every enabled pool that selects the node and the namespace
	V4, V6     int               // wanted number of addresses

	// InUse returns those of some free addresses that an object has although IPAM does not know it yet. They are passed over. Nil: none.
	InUse func(ctx context.Context, free []netip.Addr) (map[netip.Addr]bool, error)
}

// Assign assigns addresses from pools to a handle, and returns all addresses that the handle holds of the wanted families. It takes
// them, in this order, from blocks of the node, from a new block, from a block without an owner, from an empty block of another node,
// and, unless strict affinity is set, from other blocks of other nodes.
//
// If too few are free, the error is a ShortageError. Nothing is assigned then: what is free is counted first. If other programs take
// addresses in between, those that this call has assigned are released. After another error the handle may hold some of the
// addresses; a repeated request finds them.
func Assign(ctx context.Context, store kv.KV, r Request) ([]netip.Addr, error) {
	if r.Node == "" || r.Handle == "" {
		return nil, errors.New("assign addresses: a node and a handle are needed")
	}
	if err := r.tooMuch(ctx, store); err != nil {
		return nil, fmt.Errorf("assign addresses to %s: %w", r.Handle, err)
	}
	var all, added []netip.Addr
	for _, part := range r.parts() {
		if part.n == 0 {
			continue
		}
		held, fresh, err := assignFamily(ctx, store, &r, part.v4, part.n)
		all, added = append(all, held...), append(added, fresh...)
		if _, short := errors.AsType[*ShortageError](err); short {
			err = errors.Join(err, giveBack(ctx, store, r.Handle, added))
		}
		if err != nil {
			return nil, fmt.Errorf("assign addresses to %s: %w", r.Handle, err)
		}
	}
	return all, nil
}

// part is the part of a request for one family.
type part struct {
	v4 bool
	n  int
}

func (r *Request) parts() []part { return []part{{true, r.V4}, {false, r.V6}} }

// tooMuch returns a ShortageError if too few addresses are free, and writes nothing. A request for one address needs no look ahead: its
// only commit gets the address or does not happen.
func (r *Request) tooMuch(ctx context.Context, store kv.KV) error {
	if r.V4+r.V6 < 2 {
		return nil
	}
	for _, part := range r.parts() {
		if part.n == 0 {
			continue
		}
		a, err := newAttempt(ctx, store, r, part.v4)
		if err != nil {
			return err
		}
		if err := a.enough(ctx, part.n-len(a.held)); err != nil {
			return err
		}
	}
	return nil
}

// giveBack releases addresses that a request has assigned before it failed.
func giveBack(ctx context.Context, store kv.KV, handle string, addrs []netip.Addr) (failures error) {
	for _, addr := range addrs {
		failures = errors.Join(failures, ReleaseHeld(ctx, store, addr, handle))
	}
	return failures
}

// assignFamily brings the number of a handle's addresses of one family to n. It returns them, and those that it assigned.
func assignFamily(ctx context.Context, store kv.KV, r *Request, v4 bool, n int) (held, added []netip.Addr, err error) {
	for conflicts := 0; conflicts < attempts; {
		a, err := newAttempt(ctx, store, r, v4)
		if err != nil {
			return nil, added, err
		}
		if len(a.held) >= n {
			return a.held, added, nil
		}
		some, done, err := a.assign(ctx, n-len(a.held))
		switch {
		case err != nil:
			return nil, added, err
		case done:
			added, conflicts = append(added, some...), 0
			continue
		}
		conflicts++
		if err := pause(ctx, conflicts); err != nil {
			return nil, added, err
		}
	}
	return nil, added, errContended
}

// pause waits after a conflict, for a random time that grows with their number: of writers that begin again at once, one wins and all
// others fail again.
func pause(ctx context.Context, conflicts int) error {
	longest := time.Duration(min(conflicts, 50)) * time.Millisecond
	select {
	case <-time.After(rand.N(longest)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// attempt is one reading of everything that an assignment depends on, and one commit.
type attempt struct {
	*terms
	store   kv.KV
	request *Request
	handle  *handleState
	held    []netip.Addr // addresses of the handle in this family, sorted
	claims  map[netip.Prefix]claimEntry
	all     *allBlocks        // of the family; nil until they are needed
	spare   map[*termPool]int // addresses that the request could get, but that are too few
}

func newAttempt(ctx context.Context, store kv.KV, r *Request, v4 bool) (*attempt, error) {
	handle, err := readHandle(ctx, store, r.Handle)
	if err != nil {
		return nil, err
	}
	held, err := addressesOf(ctx, store, handle, v4)
	if err != nil {
		return nil, err
	}
	t, err := readTerms(ctx, store, r, v4)
	if err != nil {
		return nil, err
	}
	claims, err := claimsOf(ctx, store, r.Node, v4)
	return &attempt{terms: t, store: store, request: r, handle: handle, held: held, claims: claims}, err
}

// assign assigns up to n addresses of one block. It returns false if another program was faster.
func (a *attempt) assign(ctx context.Context, n int) (some []netip.Addr, done bool, err error) {
	p, ordinals, err := a.choose(ctx)
	if err != nil {
		return nil, false, err
	}
	if len(ordinals) == 0 {
		return nil, false, a.shortage(ctx, n, n)
	}
	ordinals = ordinals[:min(n, len(ordinals))]
	done, err = a.take(ctx, p, ordinals)
	for _, at := range ordinals {
		some = append(some, addressAt(p.block.cidr, at))
	}
	return some, done, err
}

// choose returns the first block with a free address, and all its free ordinals in the order in which they are taken. Without
// ordinals, no address is free.
func (a *attempt) choose(ctx context.Context) (place, []int, error) {
	for _, places := range []places{a.ownBlocks, a.newBlocks, a.ownerless, a.idle, a.borrowed} {
		for p, err := range places(ctx) {
			if err != nil {
				return place{}, nil, err
			}
			ordinals, err := a.free(ctx, p.block)
			if err != nil || len(ordinals) > 0 {
				return p, ordinals, err
			}
		}
	}
	return place{}, nil, nil
}

// enough returns a ShortageError if the request cannot get n more addresses. It counts them in the order in which choose takes them,
// and without the blocks that the node could claim only above its limit.
func (a *attempt) enough(ctx context.Context, n int) error {
	if n <= 0 {
		return nil
	}
	seen, claims, missing := map[netip.Prefix]bool{}, 0, n
	a.spare = map[*termPool]int{}
	for _, source := range []struct {
		places places
		claim  bool // to take one of these blocks is to claim it
	}{{a.ownBlocks, false}, {a.newBlocks, true}, {a.ownerless, true}, {a.idle, true}, {a.borrowed, false}} {
		for p, err := range source.places(ctx) {
			if err != nil {
				return err
			}
			if source.claim && a.claimed()+claims >= a.config.mostBlocks() {
				break
			}
			if seen[p.block.cidr] {
				continue
			}
			ordinals, err := a.free(ctx, p.block)
			if err != nil {
				return err
			}
			if len(ordinals) == 0 {
				continue
			}
			if _, claimed := a.claims[p.block.cidr]; source.claim && !claimed {
				claims++
			}
			seen[p.block.cidr] = true
			a.spare[p.pool] += len(ordinals)
			if missing -= len(ordinals); missing <= 0 {
				return nil
			}
		}
	}
	return a.shortage(ctx, n, missing)
}

// free returns the ordinals of a block that may be assigned, those that are free for the longest time first. Ordinals that have cooled
// down become free.
func (a *attempt) free(ctx context.Context, b *heldBlock) ([]int, error) {
	thaw(b.IPAMBlock, a.config.cooldown(), a.now)
	var ordinals []int
	var addrs []netip.Addr
	for _, at := range b.Unallocated {
		if at < 0 || at >= len(b.Allocations) || b.Allocations[at] != nil {
			continue // a damaged block
		}
		if addr := addressAt(b.cidr, at); !anyContains(a.reserved, addr) {
			ordinals, addrs = append(ordinals, at), append(addrs, addr)
		}
	}
	if a.request.InUse == nil || len(ordinals) == 0 {
		return ordinals, nil
	}
	used, err := a.request.InUse(ctx, addrs)
	if err != nil {
		return nil, fmt.Errorf("look for endpoints with addresses of block %v: %w", b.cidr, err)
	}
	return slices.DeleteFunc(ordinals, func(at int) bool { return used[addressAt(b.cidr, at)] }), nil
}

// take assigns ordinals of a block in one commit. It returns false if another program was faster.
func (a *attempt) take(ctx context.Context, p place, ordinals []int) (bool, error) {
	if p.claims {
		setOwner(p.block.IPAMBlock, a.request.Node, a.now)
	}
	for _, at := range ordinals {
		assign(p.block.IPAMBlock, at, a.request.Handle, a.request.Attributes)
	}
	finish(p.block.IPAMBlock, a.config.cooldown(), a.now)
	a.handle.add(p.block.cidr, len(ordinals))
	return commitIf(ctx, a.store, append(a.conditions, p.pool.condition), append(p.with, a.handle, p.block)...)
}

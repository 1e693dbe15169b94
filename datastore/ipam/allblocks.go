package ipam

import (
	"context"
	"errors"
	"hash/fnv"
	"iter"
	"math/big"
	"math/rand"
	"net/netip"
	"slices"

	"github.com/margay-project/margay/datastore/kv"
)

// virtualOwner begins the owners of blocks that are no nodes, such as load balancers.
const virtualOwner = "virtual:"

// owner returns the owner of the block as it is stored: host:NODE, virtual:OWNER, or empty.
func (b *heldBlock) owner() string {
	if b.Affinity == nil {
		return ""
	}
	return *b.Affinity
}

// readUsable is readBlock, but with nil for a damaged block: no address of it can be given out.
func readUsable(entry kv.Entry) (*heldBlock, error) {
	block, err := readBlock(entry)
	if _, damaged := errors.AsType[damagedError](err); damaged {
		return nil, nil
	}
	return block, err
}

// allBlocks holds all blocks of one family.
type allBlocks struct {
	usable []*heldBlock // sorted by address
	by     map[netip.Prefix]bool
	sizes  map[int]bool // prefix lengths that occur
}

// blocks reads all blocks of the family, once for each attempt.
func (a *attempt) blocks(ctx context.Context) (*allBlocks, error) {
	if a.all != nil {
		return a.all, nil
	}
	all := &allBlocks{by: map[netip.Prefix]bool{}, sizes: map[int]bool{}}
	_, err := kv.Each(ctx, a.store, kv.Prefix(BlockRoot+familyName(a.v4)+"/"), 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			if cidr, ok := ParseBlockKey(entry.Key); ok {
				all.by[cidr], all.sizes[cidr.Bits()] = true, true
			}
			block, err := readUsable(entry)
			if err != nil {
				return err
			}
			if block != nil {
				all.usable = append(all.usable, block)
			}
		}
		return nil
	})
	slices.SortFunc(all.usable, func(x, y *heldBlock) int { return x.cidr.Compare(y.cidr) })
	a.all = all
	return all, err
}

// overlaps says whether a network overlaps an existing block. The block may have another size, from a former pool.
func (all *allBlocks) overlaps(cidr netip.Prefix) bool {
	for bits := range all.sizes {
		if bits <= cidr.Bits() {
			if outer, err := cidr.Addr().Prefix(bits); err == nil && all.by[outer] {
				return true
			}
			continue
		}
		for inner := range all.by {
			if inner.Bits() == bits && cidr.Contains(inner.Addr()) {
				return true
			}
		}
	}
	return false
}

// of returns the blocks of a pool, from the place on where the node begins.
func (all *allBlocks) of(pool *termPool, node string) []*heldBlock {
	first := pool.network(pool.first(node)).Addr()
	var before, after []*heldBlock
	for _, b := range all.usable {
		switch {
		case !pool.has(b.cidr):
		case b.cidr.Addr().Less(first):
			before = append(before, b)
		default:
			after = append(after, b)
		}
	}
	return append(after, before...)
}

// lookupBlocks returns the blocks with these CIDRs; nil for one that does not exist. The error of a damaged block is in the block.
func lookupBlocks(ctx context.Context, store kv.KV, cidrs []netip.Prefix) ([]*heldBlock, error) {
	var blocks []*heldBlock
	for some := range slices.Chunk(cidrs, kv.MostKeys) {
		keys := make([]string, len(some))
		for i, cidr := range some {
			keys[i] = BlockKey(cidr)
		}
		entries, _, err := store.Lookup(ctx, keys)
		if err != nil {
			return nil, err
		}
		for i, entry := range entries {
			if entry == nil {
				blocks = append(blocks, nil)
				continue
			}
			block, err := readBlock(*entry)
			if _, damaged := errors.AsType[damagedError](err); damaged {
				block, err = &heldBlock{cidr: some[i], entry: *entry, damaged: err}, nil
			}
			if err != nil {
				return nil, err
			}
			blocks = append(blocks, block)
		}
	}
	return blocks, nil
}

// Held returns the addresses that a handle holds, sorted: IPv4 first.
func Held(ctx context.Context, store kv.KV, handle string) ([]netip.Addr, error) {
	h, err := readHandle(ctx, store, handle)
	if err != nil {
		return nil, err
	}
	v4, err := addressesOf(ctx, store, h, true)
	if err != nil {
		return nil, err
	}
	v6, err := addressesOf(ctx, store, h, false)
	return append(v4, v6...), err
}

// addressesOf returns the addresses of one family that a handle holds, sorted.
func addressesOf(ctx context.Context, store kv.KV, handle *handleState, v4 bool) ([]netip.Addr, error) {
	var cidrs []netip.Prefix
	for text := range handle.Block {
		if cidr, err := netip.ParsePrefix(text); err == nil && cidr.Addr().Is4() == v4 {
			cidrs = append(cidrs, cidr)
		}
	}
	slices.SortFunc(cidrs, netip.Prefix.Compare)
	blocks, err := lookupBlocks(ctx, store, cidrs)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, b := range blocks {
		switch {
		case b == nil:
			continue // the program that counts the block has not made it yet, or has died
		case b.damaged != nil:
			return nil, b.damaged // the handle may hold addresses of it
		}
		for at := range b.Allocations {
			if holder, allocated, cooling := handleOf(b.IPAMBlock, at); allocated && !cooling && holder == trimHandle(handle.id()) {
				addrs = append(addrs, addressAt(b.cidr, at))
			}
		}
	}
	return addrs, nil
}

// count returns the number of blocks of a pool.
func (p *termPool) count() *big.Int {
	return new(big.Int).Lsh(big.NewInt(1), uint(p.blockBits-p.cidr.Bits()))
}

// first returns the number of the block at which a node begins. Nodes begin at different ones, so that they seldom want the same one
// at the same time. It is the one at which Calico begins (FNV-1 of the node's name, then math/rand).
func (p *termPool) first(node string) *big.Int {
	seed := fnv.New32()
	_, _ = seed.Write([]byte(node))
	return new(big.Int).Rand(rand.New(rand.NewSource(int64(seed.Sum32()))), p.count())
}

// network returns the block with a number.
func (p *termPool) network(number *big.Int) netip.Prefix {
	base := p.cidr.Addr().AsSlice()
	at := new(big.Int).Lsh(number, uint(p.cidr.Addr().BitLen()-p.blockBits))
	addr, _ := netip.AddrFromSlice(at.Add(at, new(big.Int).SetBytes(base)).FillBytes(base))
	return netip.PrefixFrom(addr, p.blockBits)
}

// walk yields every block of the pool once, beginning where the node begins. It leaps over blocks that lie in one reservation: there
// may be more of them than can be counted.
func (p *termPool) walk(node string, reserved []netip.Prefix) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		one, count, at := big.NewInt(1), p.count(), p.first(node)
		for left := p.count(); left.Sign() > 0; {
			block, step := p.network(at), one
			around := slices.IndexFunc(reserved, func(r netip.Prefix) bool { return r.Bits() <= block.Bits() && r.Contains(block.Addr()) })
			if around >= 0 {
				step = p.behind(reserved[around], at)
			} else if !yield(block) {
				return
			}
			left = new(big.Int).Sub(left, step)
			if at = new(big.Int).Add(at, step); at.Cmp(count) >= 0 {
				at = new(big.Int) // past the last block: go on with the first
			}
		}
	}
}

// behind returns the number of blocks from one with a number to the end of a reservation around it, or to the end of the pool.
func (p *termPool) behind(reservation netip.Prefix, number *big.Int) *big.Int {
	end := p.count()
	if reservation.Bits() > p.cidr.Bits() {
		size := uint(p.blockBits - reservation.Bits()) // the reservation has 2^size blocks
		end = new(big.Int).Rsh(number, size)
		end.Add(end, big.NewInt(1)).Lsh(end, size)
	}
	return end.Sub(end, number)
}

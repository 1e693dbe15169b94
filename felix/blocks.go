package main

import (
	"maps"
	"math/big"
	"net/netip"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

// blocks knows the IPAM blocks of the whole datastore, as far as reservations need them.
type blocks struct {
	node  string
	byKey map[api.Key]netip.Prefix
	list  map[netip.Prefix]block
	sizes map[int]int // number of blocks by prefix length, IPv6 and IPv4 together
}

// block is kept small, because there may be thousands.
type block struct {
	owned    bool          // by any node
	taken    *big.Int      // a bit for each address that is allocated
	recorded []reservation // under handles of this node's endpoints
}

func newBlocks(node string) *blocks {
	return &blocks{node: node, byKey: map[api.Key]netip.Prefix{}, list: map[netip.Prefix]block{}, sizes: map[int]int{}}
}

// update notes that a block has changed or gone.
func (b *blocks) update(u api.Update) {
	if cidr, known := b.byKey[u.Key]; known {
		delete(b.byKey, u.Key)
		delete(b.list, cidr)
		if b.sizes[cidr.Bits()]--; b.sizes[cidr.Bits()] == 0 {
			delete(b.sizes, cidr.Bits())
		}
	}
	stored, ok := u.Object.(*api.IPAMBlock)
	if !ok || stored == nil {
		return
	}
	cidr, err := netip.ParsePrefix(stored.CIDR)
	if err != nil {
		return
	}
	b.byKey[u.Key], b.list[cidr] = cidr, b.read(stored, cidr)
	b.sizes[cidr.Bits()]++
}

func (b *blocks) read(stored *api.IPAMBlock, cidr netip.Prefix) block {
	read := block{owned: stored.Affinity != nil && *stored.Affinity != "", taken: &big.Int{}}
	addr := cidr.Addr()
	for at, attribute := range stored.Allocations {
		if attribute != nil {
			known := *attribute >= 0 && *attribute < len(stored.Attributes)
			if !known || stored.Attributes[*attribute].ReleasedAt == nil {
				read.taken.SetBit(read.taken, at, 1)
			}
			if known {
				read.recorded = b.appendOwn(read.recorded, stored.Attributes[*attribute], addr)
			}
		}
		addr = addr.Next()
	}
	return read
}

// appendOwn appends an allocation if it is under the handle of an endpoint of this node.
func (b *blocks) appendOwn(recorded []reservation, a api.IPAMAttribute, addr netip.Addr) []reservation {
	if a.HandleID == nil || !strings.HasPrefix(*a.HandleID, handlePrefix) || a.Secondary["node"] != b.node || a.ReleasedAt != nil {
		return recorded
	}
	return append(recorded, reservation{addr, api.Key{
		Kind: api.KindWorkloadEndpoint, Namespace: a.Secondary["namespace"], Name: a.Secondary["pod"],
	}})
}

// isReserved says that an address is allocated, and that its block has an owner.
func (b *blocks) isReserved(addr netip.Addr) bool {
	for bits := range b.sizes {
		cidr, err := addr.Prefix(bits)
		if err != nil {
			continue
		}
		if at, there := b.list[cidr]; there {
			return at.owned && at.taken.Bit(offset(cidr.Addr(), addr)) == 1
		}
	}
	return false
}

// offset returns the distance of an address from the first of its block. Blocks have at most 4096 addresses.
func offset(first, addr netip.Addr) int {
	from, to := first.As16(), addr.As16()
	return int(to[14])<<8 + int(to[15]) - int(from[14])<<8 - int(from[15])
}

// books compares the blocks with the endpoints of this node: those of its State, those without an interface, and those that ask for
// addresses. having returns those of some addresses that an endpoint anywhere in the datastore has.
func (b *blocks) books(state *calc.State, asks asking, others unplugged, having func(map[netip.Addr]bool) map[netip.Addr]bool) books {
	page := books{wanted: wantedReservations(state, others), recorded: map[reservation]bool{}, reserved: map[reservation]bool{}, asking: maps.Clone(asks)}
	leaving := map[netip.Addr]bool{}
	for _, block := range b.list {
		for _, r := range block.recorded {
			page.recorded[r] = true
			if !page.wanted[r] {
				leaving[r.addr] = true
			}
		}
	}
	for r := range page.wanted {
		if b.isReserved(r.addr) {
			page.reserved[r] = true
		}
	}
	if len(leaving) > 0 {
		page.shared = having(leaving)
	}
	return page
}

package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
)

// Damage holds the contradictions between IPAM's records. Each line is a sentence.
type Damage struct {
	InvalidBlocks []string
	Twice         []string // addresses with two blocks or two owners
	NoPool        []string // allocated addresses in no pool
	Counts        []string // handles whose counts differ from the blocks
	Affinities    []string // claims that do not fit the blocks and nodes
	Unreadable    []string // values that are unreadable or invalid
	Unseen        []string // unreadable nodes and workload endpoints, whose addresses are not known
}

func (b *books) damage(c *Check, users map[netip.Addr][]string, now time.Time) Damage {
	return Damage{
		InvalidBlocks: b.invalidBlocks(now),
		Twice:         heldTwice(c, users),
		NoPool:        b.outsideEveryPool(c),
		Counts:        b.wrongCounts(c),
		Affinities:    b.wrongClaims(),
		Unreadable:    b.unreadable,
		Unseen:        b.blind,
	}
}

func (b *books) invalidBlocks(now time.Time) []string {
	around := b.nested()
	var lines []string
	for _, block := range b.blocks {
		faults := faultsOf(block, now)
		if outer, ok := around[block.cidr]; ok {
			faults = append(faults, fmt.Sprintf("it lies in the block %v", outer))
		}
		if len(faults) > 0 {
			lines = append(lines, fmt.Sprintf("%v is invalid: %s", block.cidr, strings.Join(faults, "; ")))
		}
	}
	return lines
}

// nested returns the blocks that lie inside of others, each with the smallest block around it.
func (b *books) nested() map[netip.Prefix]netip.Prefix {
	var all []netip.Prefix
	for _, block := range b.blocks {
		all = append(all, block.cidr)
	}
	slices.SortFunc(all, netip.Prefix.Compare) // a network comes before the networks inside of it
	around := map[netip.Prefix]netip.Prefix{}
	var outer []netip.Prefix // the networks around the current one; each lies inside of the one before
	for _, cidr := range all {
		for len(outer) > 0 && !outer[len(outer)-1].Overlaps(cidr) {
			outer = outer[:len(outer)-1]
		}
		if len(outer) > 0 {
			around[cidr] = outer[len(outer)-1]
		}
		outer = append(outer, cidr)
	}
	return around
}

// faultsOf returns the faults of a block by itself.
func faultsOf(b *heldBlock, now time.Time) []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if cidr, err := netip.ParsePrefix(b.CIDR); err != nil || cidr != b.cidr {
		fault("its value is that of the block %q", b.CIDR)
	}
	if b.Deleted {
		fault("it is marked as deleted")
	}
	used, taken := map[int]bool{}, map[int]bool{}
	for at, index := range b.Allocations {
		if index == nil {
			continue
		}
		taken[at] = true
		if *index < 0 || *index >= len(b.Attributes) {
			fault("allocation %d indexes a nonexistent attribute %d", at, *index)
		}
		used[*index] = true
	}
	for i, attribute := range b.Attributes {
		if !used[i] {
			fault("attribute index %d exists but is not indexed by an allocation", i)
		}
		if released := attribute.ReleasedAt; released != nil && released.After(now) {
			fault("attribute index %d has releasedAt in the future, suggesting clock skew", i)
		}
	}
	return append(faults, freeFaults(b.IPAMBlock, taken)...)
}

// freeFaults returns the faults of a block's list of free ordinals.
func freeFaults(b *api.IPAMBlock, taken map[int]bool) []string {
	var faults []string
	free := map[int]bool{}
	for _, at := range b.Unallocated {
		switch {
		case at < 0 || at >= len(b.Allocations):
			faults = append(faults, fmt.Sprintf("ordinal %d appears in the Unallocated array but is out of the block", at))
		case free[at]:
			faults = append(faults, fmt.Sprintf("ordinal %d appears more than once in Unallocated array", at))
		case taken[at]:
			faults = append(faults, fmt.Sprintf("ordinal %d is allocated but appears in Unallocated", at))
		}
		free[at] = true
	}
	for at := range b.Allocations {
		if !taken[at] && !free[at] {
			faults = append(faults, fmt.Sprintf("ordinal %d is neither allocated nor in Unallocated", at))
		}
	}
	return faults
}

func heldTwice(c *Check, users map[netip.Addr][]string) []string {
	var lines []string
	for _, addr := range slices.SortedFunc(maps.Keys(c.Allocations), netip.Addr.Compare) {
		if all := c.Allocations[addr]; len(all) > 1 {
			lines = append(lines, fmt.Sprintf("%v is allocated in the blocks %v and %v", addr, all[0].Block, all[1].Block))
		}
	}
	for _, addr := range slices.SortedFunc(maps.Keys(users), netip.Addr.Compare) {
		if owners := users[addr]; len(owners) > 1 {
			lines = append(lines, fmt.Sprintf("%v has multiple owners: %s", addr, strings.Join(owners, ", ")))
		}
	}
	return lines
}

func (b *books) outsideEveryPool(c *Check) []string {
	var all []netip.Prefix
	for _, pool := range b.pools {
		all = append(all, pool.cidr)
	}
	var lines []string
	for _, addr := range slices.SortedFunc(maps.Keys(c.Allocations), netip.Addr.Compare) {
		held := slices.ContainsFunc(c.Allocations[addr], func(a *Allocation) bool { return a.Standing != CoolingDown })
		if held && !anyContains(all, addr) {
			lines = append(lines, fmt.Sprintf("%v is allocated and in no IP pool", addr))
		}
	}
	return lines
}

// wrongCounts compares the counts of handles with the blocks that name them. Handles that no block names are in LeakedHandles.
func (b *books) wrongCounts(c *Check) []string {
	held := map[string]map[string]int{} // by handle and block
	for _, allocations := range c.Allocations {
		for _, a := range allocations {
			if a.Handle == "" {
				continue
			}
			if held[a.Handle] == nil {
				held[a.Handle] = map[string]int{}
			}
			held[a.Handle][a.Block.String()]++
		}
	}
	var lines []string
	for _, h := range b.handles {
		has := held[h.id()]
		if has == nil || b.closedTo(h) || maps.Equal(has, h.Block) {
			continue
		}
		both := maps.Clone(has)
		maps.Copy(both, h.Block)
		for _, block := range slices.Sorted(maps.Keys(both)) {
			if has[block] != h.Block[block] {
				lines = append(lines, fmt.Sprintf("%s counts %d addresses in the block %s, which has %d for it", h.id(), h.Block[block], block, has[block]))
			}
		}
	}
	return lines
}

// wrongClaims compares claims with blocks and nodes. A claim that is not confirmed may still be in progress.
func (b *books) wrongClaims() []string {
	owners := map[netip.Prefix]string{}
	for _, block := range b.blocks {
		owners[block.cidr] = ""
		if block.Affinity != nil {
			owners[block.cidr] = *block.Affinity
		}
	}
	claimed := map[bookedClaim]bool{}
	var lines []string
	for _, claim := range b.claims {
		claimed[bookedClaim{owner: claim.owner, cidr: claim.cidr}] = true
		if faults := b.faultsOfClaim(claim, owners); len(faults) > 0 {
			lines = append(lines, fmt.Sprintf("%s claims %v: %s", claim.owner, claim.cidr, strings.Join(faults, "; ")))
		}
	}
	for _, block := range b.blocks {
		if owner := owners[block.cidr]; owner != "" && !claimed[bookedClaim{owner: owner, cidr: block.cidr}] {
			lines = append(lines, fmt.Sprintf("%v belongs to %s, which does not claim it", block.cidr, owner))
		}
	}
	return lines
}

func (b *books) faultsOfClaim(claim bookedClaim, owners map[netip.Prefix]string) []string {
	var faults []string
	if claim.state != confirmed {
		faults = append(faults, "the claim is "+describeState(claim.state))
	}
	switch owner, exists := owners[claim.cidr]; {
	case slices.Contains(b.closed, claim.cidr):
	case !exists:
		faults = append(faults, "the block does not exist")
	case owner == "":
		faults = append(faults, "the block belongs to nobody")
	case owner != claim.owner:
		faults = append(faults, "the block belongs to "+owner)
	}
	if node, ok := strings.CutPrefix(claim.owner, ownerOf("")); ok && !b.nodes[node] {
		faults = append(faults, "the node does not exist")
	}
	return faults
}

func describeState(state string) string {
	if state == "" {
		return "without a state"
	}
	return state
}

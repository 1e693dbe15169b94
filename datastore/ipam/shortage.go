package ipam

import (
	"context"
	"fmt"
	"strings"
)

// ShortageError says that too few addresses of a family are free, and why.
type ShortageError struct {
	V4      bool
	Wanted  int      // addresses for the handle
	Missing int      // of them, those that it cannot get
	Reasons []string // a phrase for each pool
}

func (e *ShortageError) Error() string {
	what := "IPv6"
	if e.V4 {
		what = "IPv4"
	}
	if len(e.Reasons) == 0 {
		return fmt.Sprintf("there is no IPPool with %s addresses: create one", what)
	}
	some := "no " + what + " address is free"
	if e.Wanted > 1 {
		some = fmt.Sprintf("%d of %d %s addresses are missing", e.Missing, e.Wanted, what)
	}
	return fmt.Sprintf("%s: %s: release addresses (margayctl ipam check finds leaks), or create an IPPool", some, strings.Join(e.Reasons, "; "))
}

// shortage returns the error for a request for n more addresses, some of which are not free.
func (a *attempt) shortage(ctx context.Context, n, missing int) error {
	all, err := a.blocks(ctx)
	if err != nil {
		return err
	}
	short := &ShortageError{V4: a.v4, Wanted: len(a.held) + n, Missing: missing}
	for _, pool := range a.pools {
		short.Reasons = append(short.Reasons, a.describe(pool, all))
	}
	short.Reasons = append(short.Reasons, a.refused...)
	return short
}

// describe counts the addresses of a pool that gives too few, and names what forbids the use of its free ones.
func (a *attempt) describe(pool *termPool, all *allBlocks) string {
	total, reserved := sizeOf(pool.cidr), coveredBy(pool.cidr, a.reserved)
	var used, cooling float64
	for _, b := range all.of(pool, a.request.Node) {
		for at := range b.Allocations {
			switch _, allocated, cools := handleOf(b.IPAMBlock, at); {
			case cools:
				cooling++
			case allocated:
				used++
			default:
				continue
			}
			if anyContains(a.reserved, addressAt(b.cidr, at)) {
				reserved--
			}
		}
	}
	text := fmt.Sprintf("IPPool %s has %.5g addresses, %.5g in use", pool.name, total, used)
	if cooling > 0 {
		text += fmt.Sprintf(", %.5g released and cooling down", cooling)
	}
	if reserved > 0 {
		text += fmt.Sprintf(", %.5g reserved", reserved)
	}
	spare := float64(a.spare[pool])
	if spare > 0 {
		text += fmt.Sprintf(", %.5g free", spare)
	}
	if free := total - used - cooling - reserved - spare; free > 0 {
		text += fmt.Sprintf(", %.5g free that node %s may not use now (%s)", free, a.request.Node, a.hindrance())
	}
	return text
}

// hindrance names the reason why the node does not use free addresses.
func (a *attempt) hindrance() string {
	switch {
	case !a.config.AutoAllocateBlocks:
		return "the IPAM configuration forbids nodes to claim blocks, and strict affinity forbids the blocks of other nodes"
	case a.claimed() >= a.config.mostBlocks():
		return fmt.Sprintf("it has %d blocks, the most that a node may claim: margayctl ipam configure --strictaffinity=true "+
			"--max-blocks-per-host=N raises that", a.claimed())
	case a.config.StrictAffinity:
		return "strict affinity forbids the blocks of other nodes: margayctl ipam configure --strictaffinity=false"
	}
	return "endpoints have them, and IPAM does not know it yet, or their block is unreadable"
}

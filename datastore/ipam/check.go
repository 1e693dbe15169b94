package ipam

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// Check compares IPAM's records with the nodes and workload endpoints that have the addresses, at one revision of the datastore.
type Check struct {
	Revision    int64
	Cluster     Cluster
	Blocks      []CheckedBlock // sorted by key
	Pools       []netip.Prefix // the enabled pools, sorted by name
	Tunnels     []Use          // tunnel addresses of nodes
	Workloads   []Use          // addresses of workload endpoints
	Allocations map[netip.Addr][]*Allocation

	NotAllocated   []Use        // addresses in use, in an enabled pool, without an allocation
	OutsidePools   []Use        // addresses in use, in no enabled pool, without an allocation
	LeakedHandles  []Handle     // handles that no block names
	GoodHandles    int          // number of the other handles
	MissingHandles []string     // handles that blocks name and that do not exist
	Reserved       []netip.Addr // allocated addresses that an IPReservation covers

	Damage
}

// CheckedBlock is a block with the addresses that are allocated in it.
type CheckedBlock struct {
	CIDR        netip.Prefix
	Owner       string // host:NODE, virtual:OWNER, or empty
	Allocations []*Allocation
}

// Handle names a handle and the revision of its last write.
type Handle struct {
	ID       string
	Revision int64
}

// Allocation is an address that is allocated in a block.
type Allocation struct {
	Addr      netip.Addr
	Block     netip.Prefix
	Attribute *api.IPAMAttribute // nil if the block has none for the address
	Handle    string             // empty if it has none
	Sequence  uint64             // the block's sequence number at the allocation
	Node      string             // node that uses the address, or else the node of the block
	Borrowed  bool               // another node than that of the block uses it
	Standing  Standing
	Owners    []string // nodes and workload endpoints that have the address
}

// Standing says whether an allocated address is in use.
type Standing int

const (
	Leaked         Standing = iota // no node or workload endpoint has it
	InUse                          // a node or workload endpoint has it
	CoolingDown                    // released, and not to be allocated again yet
	UnknownType                    // for an owner of a kind that this version does not know: it counts as in use
	Elsewhere                      // for an owner that only Kubernetes knows: it counts as in use
	WindowsReserve                 // reserved by a Windows node
)

// Held says whether the address is in use, or counts as in use.
func (s Standing) Held() bool { return s != Leaked && s != CoolingDown }

// Of returns an attribute that the allocator stored; empty if there is none.
func (a *Allocation) Of(name string) string {
	if a.Attribute == nil {
		return ""
	}
	return a.Attribute.Secondary[name]
}

// RunCheck compares IPAM's records with the nodes and workload endpoints, and with each other. It changes nothing.
func RunCheck(ctx context.Context, store kv.KV, now time.Time) (*Check, error) {
	b, err := readBooks(ctx, store)
	if err != nil {
		return nil, err
	}
	c := &Check{
		Revision: b.revision, Cluster: b.cluster, Tunnels: b.tunnels, Workloads: b.workload,
		Allocations: map[netip.Addr][]*Allocation{},
	}
	for _, pool := range b.pools {
		if !pool.disabled {
			c.Pools = append(c.Pools, pool.cidr)
		}
	}
	for _, block := range b.blocks {
		c.addBlock(block)
	}
	users := c.match()
	c.compareUses(b, users)
	c.compareHandles(b)
	for _, addr := range slices.SortedFunc(maps.Keys(c.Allocations), netip.Addr.Compare) {
		if anyContains(b.reserved, addr) {
			c.Reserved = append(c.Reserved, addr)
		}
	}
	c.Damage = b.damage(c, users, now)
	return c, nil
}

func (c *Check) addBlock(b *heldBlock) {
	checked := CheckedBlock{CIDR: b.cidr}
	if b.Affinity != nil {
		checked.Owner = *b.Affinity
	}
	addr := b.cidr.Addr()
	for at, index := range b.Allocations {
		if index != nil {
			a := allocationAt(b, at, addr)
			checked.Allocations = append(checked.Allocations, a)
			c.Allocations[addr] = append(c.Allocations[addr], a)
		}
		addr = addr.Next()
	}
	c.Blocks = append(c.Blocks, checked)
}

func allocationAt(b *heldBlock, at int, addr netip.Addr) *Allocation {
	a := &Allocation{Addr: addr, Block: b.cidr, Sequence: numberOf(b.IPAMBlock, at)}
	owner := ""
	if b.Affinity != nil {
		owner = *b.Affinity
	}
	node, _ := strings.CutPrefix(owner, ownerOf(""))
	if node != owner {
		a.Node = node
	}
	index := *b.Allocations[at]
	if index < 0 || index >= len(b.Attributes) {
		return a
	}
	a.Attribute = &b.Attributes[index]
	if a.Attribute.HandleID != nil && !strings.EqualFold(*a.Attribute.HandleID, windowsHandle) {
		a.Handle = trimHandle(*a.Attribute.HandleID)
	}
	if user := a.Of("node"); user != "" {
		a.Borrowed, a.Node = owner != ownerOf(user), user
	}
	return a
}

// match sets the standing of each allocation. It returns the users of each address that is in use.
func (c *Check) match() map[netip.Addr][]string {
	users := map[netip.Addr][]string{}
	for _, use := range slices.Concat(c.Tunnels, c.Workloads) {
		users[use.Addr] = append(users[use.Addr], use.Owner)
	}
	for addr, allocations := range c.Allocations {
		for _, a := range allocations {
			a.judge(users[addr])
		}
	}
	return users
}

// judge sets the standing of an allocation. users are the nodes and workload endpoints that have its address.
func (a *Allocation) judge(users []string) {
	a.Owners = users
	kind := a.Of("type")
	switch {
	case a.Attribute != nil && a.Attribute.ReleasedAt != nil:
		a.Standing = CoolingDown
	case len(users) > 0:
		a.Standing = InUse
	case a.Attribute == nil:
		a.Standing = Leaked
	case a.Attribute.HandleID != nil && strings.EqualFold(*a.Attribute.HandleID, windowsHandle):
		a.Standing, a.Owners = WindowsReserve, []string{"Reserved for Windows"}
	case ofKubernetes(a):
		a.Standing, a.Owners = Elsewhere, []string{"Kubernetes"}
	case kind != "" && !slices.Contains(tunnelTypes(), kind):
		a.Standing, a.Owners = UnknownType, []string{"UnknownType(" + kind + ")"}
	default:
		a.Standing = Leaked
	}
}

// tunnelTypes returns the values of the attribute type of tunnel addresses.
func tunnelTypes() []string {
	return []string{"ipipTunnelAddress", "vxlanTunnelAddress", "vxlanV6TunnelAddress", "wireguardTunnelAddress", "wireguardV6TunnelAddress"}
}

// ofKubernetes says whether only Kubernetes knows if an address is in use: an address of a load balancer, or of a virtual machine of
// KubeVirt, which keeps it while it is stopped and has no endpoint.
func ofKubernetes(a *Allocation) bool {
	return a.Of("type") == "LoadBalancer" || a.Of("service") != "" || strings.HasPrefix(a.Handle, "lb-") ||
		strings.Contains(a.Handle, ".vmi.") || strings.HasPrefix(a.Handle, "vmi.")
}

// compareUses finds addresses that are in use and not allocated. It leaves out addresses in unreadable blocks.
func (c *Check) compareUses(b *books, users map[netip.Addr][]string) {
	for _, addr := range slices.SortedFunc(maps.Keys(users), netip.Addr.Compare) {
		if _, allocated := c.Allocations[addr]; allocated || anyContains(b.closed, addr) {
			continue
		}
		for _, owner := range users[addr] {
			use := Use{Addr: addr, Owner: owner}
			if anyContains(c.Pools, addr) {
				c.NotAllocated = append(c.NotAllocated, use)
			} else {
				c.OutsidePools = append(c.OutsidePools, use)
			}
		}
	}
}

// compareHandles finds handles that no block names, and names of handles in blocks without a handle.
func (c *Check) compareHandles(b *books) {
	named := map[string]bool{}
	for _, allocations := range c.Allocations {
		for _, a := range allocations {
			if a.Handle != "" {
				named[a.Handle] = true
			}
		}
	}
	for _, h := range b.handles {
		switch id := h.id(); {
		case named[id]:
			c.GoodHandles++
			delete(named, id)
		case b.closedTo(h):
			c.GoodHandles++ // an unreadable block may name it
		default:
			c.LeakedHandles = append(c.LeakedHandles, Handle{ID: id, Revision: h.revision})
		}
	}
	for _, id := range b.badHandles {
		delete(named, id) // the handle exists, although it is unreadable
	}
	c.MissingHandles = slices.Sorted(maps.Keys(named))
}

// closedTo says whether a handle counts addresses in an unreadable block.
func (b *books) closedTo(h *handleState) bool {
	for text := range h.Block {
		if cidr, err := netip.ParsePrefix(text); err == nil && slices.Contains(b.closed, cidr) {
			return true
		}
	}
	return false
}

func anyContains(all []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Leaks returns the leaked addresses, sorted. An address with several allocations is leaked only if all of them are.
func (c *Check) Leaks() []netip.Addr {
	var leaks []netip.Addr
	for _, addr := range slices.SortedFunc(maps.Keys(c.Allocations), netip.Addr.Compare) {
		if !slices.ContainsFunc(c.Allocations[addr], func(a *Allocation) bool { return a.Standing != Leaked }) {
			leaks = append(leaks, addr)
		}
	}
	return leaks
}

// ByNode returns the number of allocated addresses of each node, the largest first.
func (c *Check) ByNode() []NodeCount {
	counts := map[string]int{}
	for _, allocations := range c.Allocations {
		for _, a := range allocations {
			counts[a.Node]++
		}
	}
	var all []NodeCount
	for node, n := range counts {
		all = append(all, NodeCount{node, n})
	}
	slices.SortFunc(all, func(a, b NodeCount) int {
		return cmp.Or(b.Allocations-a.Allocations, strings.Compare(a.Node, b.Node))
	})
	return all
}

// NodeCount is the number of allocated addresses of a node.
type NodeCount struct {
	Node        string
	Allocations int
}

// Blind returns an error if leaks cannot be distinguished from addresses in use, because a node or workload endpoint is unreadable.
func (c *Check) Blind() error {
	if len(c.Unseen) == 0 {
		return nil
	}
	return fmt.Errorf("it is not known which addresses are leaked, because these objects are unreadable: %s: replace or delete them, and check again",
		strings.Join(c.Unseen, ", "))
}

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

// Check is what IPAM says about every address, compared with what has it, at one revision of the datastore.
type Check struct {
	Revision    int64
	Cluster     Cluster
	Blocks      []CheckedBlock // in the order of their keys
	Pools       []netip.Prefix // those that are not disabled, in the order of their names
	Tunnels     []Use          // addresses that nodes have for their tunnels
	Workloads   []Use          // addresses that workload endpoints have
	Allocations map[netip.Addr][]*Allocation

	NotAllocated   []Use    // in a pool that is not disabled, and no block says so
	OutsidePools   []Use    // in no such pool, and no block says so
	LeakedHandles  []Handle // that no block names
	GoodHandles    int
	MissingHandles []string     // that blocks name and that do not exist
	Reserved       []netip.Addr // that are allocated although an IPReservation keeps them from allocators

	Damage
}

// CheckedBlock is a block with the addresses that are allocated in it.
type CheckedBlock struct {
	CIDR        netip.Prefix
	Owner       string // host:NODE, virtual:OWNER, or empty
	Allocations []*Allocation
}

// Handle is a handle, and the revision at which it was last written.
type Handle struct {
	ID       string
	Revision int64
}

// Allocation is an address that a block gives to somebody.
type Allocation struct {
	Addr      netip.Addr
	Block     netip.Prefix
	Attribute *api.IPAMAttribute // nil when the block has none for it
	Handle    string             // empty for none
	Sequence  uint64             // the block's number when it was allocated
	Node      string             // where it is used, or else the block's node
	Borrowed  bool               // it is used on another node than the block's
	Standing  Standing
	Owners    []string // what has it
}

// Standing says how an allocation compares with what has its address.
type Standing int

const (
	Leaked         Standing = iota // nothing has it
	InUse                          // something has it
	CoolingDown                    // it was given back a short while ago
	UnknownType                    // of a kind that this version does not know: it must be assumed to be in use
	Elsewhere                      // for something that only Kubernetes knows: it must be assumed to be in use
	WindowsReserve                 // kept from everybody on a Windows node
)

// Held says that somebody has the address or must be assumed to have it.
func (s Standing) Held() bool { return s != Leaked && s != CoolingDown }

// Of is an attribute that the allocator wrote; empty for none.
func (a *Allocation) Of(name string) string {
	if a.Attribute == nil {
		return ""
	}
	return a.Attribute.Secondary[name]
}

// RunCheck compares what IPAM says with the nodes and workload endpoints, and its parts with each other. It changes nothing.
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

// match finds what has each allocated address, and returns what has any address.
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

// judge compares an allocation with what has its address.
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

// tunnelTypes are what allocators write as type of an address of a node's tunnel.
func tunnelTypes() []string {
	return []string{"ipipTunnelAddress", "vxlanTunnelAddress", "vxlanV6TunnelAddress", "wireguardTunnelAddress", "wireguardV6TunnelAddress"}
}

// ofKubernetes says that only Kubernetes knows whether an address is in use: that of a load balancer, or that of a virtual
// machine of KubeVirt, which keeps it while it is stopped and has no endpoint.
func ofKubernetes(a *Allocation) bool {
	return a.Of("type") == "LoadBalancer" || a.Of("service") != "" || strings.HasPrefix(a.Handle, "lb-") ||
		strings.Contains(a.Handle, ".vmi.") || strings.HasPrefix(a.Handle, "vmi.")
}

// compareUses finds addresses that are in use and not allocated. An address in a block that cannot be read is not judged.
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

// compareHandles finds handles that no block names, and those that only blocks name.
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
			c.GoodHandles++ // nobody knows
		default:
			c.LeakedHandles = append(c.LeakedHandles, Handle{ID: id, Revision: h.revision})
		}
	}
	for _, id := range b.illegible {
		delete(named, id) // it exists, such as it is
	}
	c.MissingHandles = slices.Sorted(maps.Keys(named))
}

// closedTo says that a handle counts addresses in a block that cannot be read.
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

// Leaks are the addresses that nothing has, in order. In an address that is allocated twice, neither is one while the other
// is held.
func (c *Check) Leaks() []netip.Addr {
	var leaks []netip.Addr
	for _, addr := range slices.SortedFunc(maps.Keys(c.Allocations), netip.Addr.Compare) {
		if !slices.ContainsFunc(c.Allocations[addr], func(a *Allocation) bool { return a.Standing != Leaked }) {
			leaks = append(leaks, addr)
		}
	}
	return leaks
}

// ByNode is how many addresses are allocated for each node, most first.
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

// NodeCount is how many addresses are allocated for a node.
type NodeCount struct {
	Node        string
	Allocations int
}

// Blind says why leaks cannot be told from addresses in use; nil when they can.
func (c *Check) Blind() error {
	if len(c.Unseen) == 0 {
		return nil
	}
	return fmt.Errorf("which addresses are leaked is not known: what %s has cannot be read: replace or delete it, and check again",
		strings.Join(c.Unseen, ", "))
}

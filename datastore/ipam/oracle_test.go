package ipam_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// TestAssignedAddressesAreThoseOfTheModel assigns and releases at random, under random settings, and compares every commit with a
// model that looks at each address of the pools.
func TestAssignedAddressesAreThoseOfTheModel(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			m := newModel(t, rand.New(rand.NewPCG(seed, i)))
			for range 60 {
				m.act()
				time.Sleep(time.Duration(m.random.IntN(30)) * time.Second) // by the clock of synctest
			}
		})
		if t.Failed() {
			t.Fatalf("history %d of seed %d", i, seed)
		}
	}
}

// model is the obviously right allocator: it knows for each address whether a node may have it, and which addresses come first. The
// pool has 16 addresses in blocks of 4.
type model struct {
	kv.KV
	t          *testing.T
	random     *rand.Rand
	strict     bool
	auto       bool
	most       int
	cooldown   time.Duration
	reserved   map[netip.Addr]bool
	inUse      map[netip.Addr]bool
	claimTimes map[string]time.Time // by block, of the present owner

	asking string  // the node of the present request; empty: none
	handle string  // of the present request
	before *ground // the present state
	last   *ground // the state after the last assignment of the present request
}

func newModel(t *testing.T, random *rand.Rand) *model {
	m := &model{
		KV: kvtest.NewMemory(), t: t, random: random, strict: random.IntN(2) == 0, auto: true, most: 20,
		cooldown: time.Duration(random.IntN(3)) * 50 * time.Second,
		reserved: map[netip.Addr]bool{}, inUse: map[netip.Addr]bool{}, claimTimes: map[string]time.Time{},
	}
	if m.strict {
		m.auto = random.IntN(4) > 0
		if random.IntN(2) == 0 {
			m.most = 1 + random.IntN(3)
		}
	}
	most := m.most
	if most == 20 {
		most = 0
	}
	var reserved []string
	for a := netip.MustParseAddr("10.0.0.0"); a != netip.MustParseAddr("10.0.0.16"); a = a.Next() {
		if m.reserved[a] = random.IntN(8) == 0; m.reserved[a] {
			reserved = append(reserved, `"`+a.String()+`"`)
		}
		m.inUse[a] = random.IntN(8) == 0
	}
	putPool(t, m.KV, "p", `"cidr":"10.0.0.0/28","blockSize":30`)
	put(t, m.KV, resourceRoot+"ipreservations/r", `{"spec":{"reservedCIDRs":[`+strings.Join(reserved, ",")+`]}}`)
	put(t, m.KV, root+"config", fmt.Sprintf(`{"strict_affinity":%t,"auto_allocate_blocks":%t,"maxBlocksPerHost":%d,"ipCooldownSeconds":%d}`,
		m.strict, m.auto, most, int(m.cooldown.Seconds())))
	for i := range 3 {
		putNode(t, m.KV, fmt.Sprint("n", i), "")
	}
	m.look()
	return m
}

func (m *model) look() *ground {
	g, err := readGround(m.t.Context(), m.KV)
	if err != nil {
		m.t.Fatal(err)
	}
	for name, b := range g.blocks {
		if m.before == nil || m.before.blocks[name] == nil || b.Affinity == nil || m.before.blocks[name].Affinity == nil ||
			*m.before.blocks[name].Affinity != *b.Affinity {
			m.claimTimes[name] = time.Now().Truncate(time.Second)
		}
	}
	m.before = g
	return g
}

// Commit compares each assignment with the model.
func (m *model) Commit(ctx context.Context, conditions []kv.Condition, writes []kv.Write) (kv.Outcome, error) {
	before, known := m.before, ""
	var first []netip.Addr
	if m.asking != "" {
		first, known = m.choices(before, m.asking), m.describe(before)
	}
	outcome, err := m.KV.Commit(ctx, conditions, writes)
	after := m.look()
	var fresh []netip.Addr
	for a, is := range after.holders {
		if was := before.holders[a]; is.handle != "" && is.handle != was.handle {
			fresh = append(fresh, a)
		}
	}
	if m.asking == "" || len(fresh) == 0 {
		return outcome, err
	}
	m.last = after
	for _, a := range fresh {
		if after.holders[a].handle != m.handle || !slices.Contains(first, a) {
			m.t.Fatalf("node %s got %v for %s; the model gives one of %v\nfrom %s", m.asking, fresh, m.handle, first, known)
		}
	}
	return outcome, err
}

// choices returns the addresses from which the next one is taken: those of the first kind that has any.
func (m *model) choices(g *ground, node string) []netip.Addr {
	kinds := make([][]netip.Addr, 5)
	claims := m.auto && m.claimed(g, node) < m.most
	for a := netip.MustParseAddr("10.0.0.0"); a != netip.MustParseAddr("10.0.0.16"); a = a.Next() {
		is, held := g.holders[a]
		if held && (is.handle != "" || time.Since(is.released) < m.cooldown) || m.reserved[a] || m.inUse[a] {
			continue
		}
		b := g.blocks[blockOf(a).String()]
		add := func(kind int, may bool) {
			if may {
				kinds[kind] = append(kinds[kind], a)
			}
		}
		switch {
		case b == nil:
			add(1, claims)
		case b.Affinity != nil && *b.Affinity == "host:"+node:
			add(0, true)
		default:
			add(2, claims && b.Affinity == nil)
			add(3, claims && b.Affinity != nil && m.isIdle(g, b))
			add(4, !m.strict)
		}
	}
	for _, kind := range kinds {
		if len(kind) > 0 {
			return kind
		}
	}
	return nil
}

// describe writes down everything that the model knows, for a failed test.
func (m *model) describe(g *ground) string {
	text := fmt.Sprintf("strict %t, auto %t, most %d, cooldown %v, now %v\n", m.strict, m.auto, m.most, m.cooldown, time.Now())
	for _, name := range slices.Sorted(maps.Keys(g.blocks)) {
		owner := "nobody"
		if g.blocks[name].Affinity != nil {
			owner = *g.blocks[name].Affinity
		}
		text += fmt.Sprintf("%s of %s since %v\n", name, owner, m.claimTimes[name])
	}
	for _, a := range slices.SortedFunc(maps.Keys(m.reserved), netip.Addr.Compare) {
		is, held := g.holders[a]
		text += fmt.Sprintf("%v reserved %t, in use %t, held %t by %q, released %v\n", a, m.reserved[a], m.inUse[a], held, is.handle, is.released)
	}
	return text
}

func (m *model) claimed(g *ground, node string) (n int) {
	for _, b := range g.blocks {
		if b.Affinity != nil && *b.Affinity == "host:"+node {
			n++
		}
	}
	return n
}

// isIdle says that no address of a block is held or cools down, and that its owner claimed it a minute ago.
func (m *model) isIdle(g *ground, b *stockBlock) bool {
	for at := range b.Allocations {
		if is, held := g.holders[b.at(at)]; held && (is.handle != "" || time.Since(is.released) < m.cooldown) {
			return false
		}
	}
	return time.Since(m.claimTimes[b.CIDR]) >= time.Minute
}

func (m *model) act() {
	ctx := m.t.Context()
	node, handle := fmt.Sprint("n", m.random.IntN(3)), fmt.Sprint("vm.", m.random.IntN(8))
	switch m.random.IntN(10) {
	default:
		m.assign(node, handle, 1+m.random.IntN(4))
	case 0, 1, 2:
		if err := ipam.Release(ctx, m, handle); err != nil {
			m.t.Fatal(err)
		}
	case 3:
		if err := ipam.ReleasePool(ctx, m, blockOf(addr(fmt.Sprintf("10.0.0.%d", m.random.IntN(16))))); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *model) assign(node, handle string, n int) {
	m.asking, m.handle, m.last = node, handle, m.before
	defer func() { m.asking = "" }()
	held := m.before.heldBy(handle)
	addrs, err := ipam.Assign(m.t.Context(), m, ipam.Request{Node: node, Handle: handle, V4: n,
		InUse: func(context.Context, []netip.Addr) (map[netip.Addr]bool, error) { return m.inUse, nil }})
	now := m.before.heldBy(handle)
	if short, ok := errors.AsType[*ipam.ShortageError](err); ok {
		if len(now) != len(held) || m.last != m.before {
			m.t.Fatalf("%s held %v before it failed, and holds %v", handle, held, now)
		}
		if possible := n - short.Missing; possible > len(held) {
			m.assign(node, handle, possible)
		}
		if left := m.choices(m.before, node); len(left) > 0 || len(m.before.heldBy(handle)) != n-short.Missing {
			m.t.Fatalf("%s on %s: %v; the model has %v", handle, node, err, left)
		}
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	slices.SortFunc(now, netip.Addr.Compare)
	if len(now) != max(n, len(held)) || !slices.Equal(now, addrs) {
		m.t.Fatalf("%s asked for %d, holds %v, and was told %v", handle, n, now, addrs)
	}
}

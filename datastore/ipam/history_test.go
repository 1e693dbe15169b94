package ipam_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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

// TestHistoriesBesideAnotherClient changes addresses at random while another client does so too. That client writes handle and block
// one after the other, as Calico does. It continues in the middle of our operations, so that they meet conflicts and half-done
// changes. The test checks every commit of both, and every answer of ours.
func TestHistoriesBesideAnotherClient(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i := range uint64(25) {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory(t, rand.New(rand.NewPCG(seed, i)))
			defer h.stop()
			for range 120 {
				h.act()
				time.Sleep(time.Duration(h.random.IntN(3000)) * time.Millisecond) // by the clock of synctest
			}
			h.end()
		})
		if t.Failed() {
			t.Fatalf("history %d of seed %d", i, seed)
		}
	}
}

// history holds two clients of one datastore, and the expected state.
type history struct {
	t        *testing.T
	random   *rand.Rand
	store    kv.KV // what ours works on
	checked  *checkedKV
	stock    *stockClient
	running  []*running
	died     bool // the other client died in the middle of something
	mayDie   bool
	findings []ipam.Leak // of checks in the past
}

// running is an unfinished operation of the other client.
type running struct {
	next func() (struct{}, bool)
	stop func()
}

func newHistory(t *testing.T, random *rand.Rand) *history {
	cooldown := time.Duration(random.IntN(3)) * 4 * time.Second
	checked := &checkedKV{KV: kvtest.NewMemory(), t: t, cooldown: cooldown}
	put(t, checked, pools+"v4", `{"metadata":{"name":"v4"},"spec":{"cidr":"10.0.0.0/28","blockSize":30}}`)
	putNode(t, checked, "n0", "")
	putNode(t, checked, "n1", "")
	put(t, checked, root+"config", fmt.Sprintf(`{"auto_allocate_blocks":true,"ipCooldownSeconds":%d}`, int(cooldown.Seconds())))
	h := &history{t: t, random: random, checked: checked, mayDie: random.IntN(3) == 0}
	h.stock = &stockClient{t: t, store: checked, cooldown: cooldown}
	h.store = &meddling{KV: checked, meddle: h.meddle}
	return h
}

// meddling is a KV in which the other client continues before each commit.
type meddling struct {
	kv.KV
	meddle func()
}

func (m *meddling) Commit(ctx context.Context, conditions []kv.Condition, writes []kv.Write) (kv.Outcome, error) {
	m.meddle()
	return m.KV.Commit(ctx, conditions, writes)
}

func (h *history) meddle() {
	for range h.random.IntN(4) {
		h.stockStep()
	}
}

// stockStep lets the other client continue an operation, or begin one.
func (h *history) stockStep() {
	if len(h.running) == 0 || h.random.IntN(4) == 0 {
		next, stop := iter.Pull(h.anything())
		h.running = append(h.running, &running{next, stop})
	}
	at := h.random.IntN(len(h.running))
	r := h.running[at]
	if h.mayDie && h.random.IntN(60) == 0 {
		h.died = true
	} else if _, more := r.next(); more {
		return
	}
	r.stop()
	h.running = slices.Delete(h.running, at, at+1)
}

func (h *history) address() netip.Addr { return addr(fmt.Sprintf("10.0.0.%d", h.random.IntN(16))) }
func (h *history) handle() string      { return fmt.Sprintf("vm.%d", h.random.IntN(4)) }
func (h *history) node() string        { return fmt.Sprintf("n%d", h.random.IntN(2)) }

func (h *history) anything() iter.Seq[struct{}] {
	switch h.random.IntN(8) {
	case 0:
		return h.stock.releaseAffinity(h.node(), blockOf(h.address()))
	case 1:
		return h.stock.releaseHandle(h.handle())
	case 2, 3:
		return h.stock.releaseAddress(h.address())
	}
	return h.stock.assign(h.node(), h.address(), h.handle())
}

// act makes one operation of ours and compares the answer with the stored state.
func (h *history) act() {
	ctx, a, handle := h.t.Context(), h.address(), h.handle()
	before := h.checked.now
	var err error
	switch what := h.random.IntN(11); what {
	case 0:
		h.stockStep()
	case 1, 2, 3:
		if err = ipam.Reserve(ctx, h.store, h.node(), a, handle, nil); err == nil && h.checked.now.holders[a].handle == "" {
			h.t.Fatalf("%v was reserved, and nobody has it", a)
		}
	case 4:
		if err = ipam.Release(ctx, h.store, handle); err == nil && len(h.checked.now.heldBy(handle)) > 0 {
			h.t.Fatalf("%s gave back everything, and has %v", handle, h.checked.now.heldBy(handle))
		}
	case 5:
		if err = ipam.ReleaseAddress(ctx, h.store, a); err == nil && h.checked.now.holders[a].handle != "" {
			h.t.Fatalf("%v was released, and %v has it", a, h.checked.now.holders[a])
		}
	case 6:
		err = h.releaseFindings(ctx)
	case 7:
		err = ipam.ReleaseNode(ctx, h.store, h.node(), []netip.Addr{a})
	case 9, 10:
		err = h.assign(ctx, handle)
	case 8:
		err = ipam.ReleasePool(ctx, h.store, netip.MustParsePrefix("10.0.0.0/29"))
	}
	if err != nil {
		h.t.Fatalf("%v, after %+v", err, before)
	}
}

// assign requests up to 3 addresses for a handle. Another operation of the other client may give it more, or take some away.
func (h *history) assign(ctx context.Context, handle string) error {
	n := 1 + h.random.IntN(3)
	addrs, err := ipam.Assign(ctx, h.store, ipam.Request{Node: h.node(), Handle: handle, V4: n})
	if _, short := errors.AsType[*ipam.ShortageError](err); short {
		if free := 16 - len(h.checked.now.holders); free > 8 {
			h.t.Fatalf("%v, although %d addresses are free", err, free)
		}
		return nil
	}
	if err == nil && len(addrs) < n {
		h.t.Fatalf("%s asked for %d and got %v", handle, n, addrs)
	}
	return err
}

// releaseFindings releases some leaks of earlier checks, and checks that nothing else is released.
func (h *history) releaseFindings(ctx context.Context) error {
	c, err := ipam.RunCheck(ctx, h.store, time.Now())
	if err != nil {
		return err
	}
	h.random.Shuffle(len(h.findings), func(i, j int) { h.findings[i], h.findings[j] = h.findings[j], h.findings[i] })
	h.findings = h.findings[:min(len(h.findings), 12)]
	h.checked.released = map[netip.Addr][]holder{}
	freed, err := c.ReleaseLeaks(ctx, h.store, h.findings)
	for _, a := range freed.Released {
		if !slices.ContainsFunc(h.findings, func(leak ipam.Leak) bool {
			return leak.Addr == a && slices.Contains(h.checked.released[a], holder{handle: leak.Handle, number: leak.Sequence})
		}) {
			h.t.Fatalf("%v is said to be released; it was taken from %v, and the leaks were %v", a, h.checked.released[a], h.findings)
		}
	}
	if n := len(freed.Released) + len(freed.Gone) + len(freed.Kept); err == nil && n != len(h.findings) {
		h.t.Fatalf("%d of %d leaks are accounted for: %+v", n, len(h.findings), freed)
	}
	for _, a := range c.Leaks() { // there are no endpoints: everything is leaked
		for _, allocation := range c.Allocations[a] {
			h.findings = append(h.findings, ipam.Leak{Addr: a, Handle: allocation.Handle, Sequence: allocation.Sequence})
		}
	}
	return err
}

// end lets the other client finish, and then counts everything.
func (h *history) end() {
	for _, r := range h.running {
		for more := true; more; {
			_, more = r.next()
		}
	}
	for handle, blocks := range h.checked.now.handles {
		for block, n := range blocks {
			held := h.checked.now.held(handle, block)
			if n != held && !h.died {
				h.t.Fatalf("%s counts %d in %s, which gives it %d", handle, n, block, held)
			}
		}
	}
	c, err := ipam.RunCheck(h.t.Context(), h.checked, time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	if len(c.InvalidBlocks)+len(c.Twice)+len(c.NoPool)+len(c.MissingHandles)+len(c.Unreadable) > 0 {
		h.t.Fatalf("the check finds %+v and the missing handles %v", c.Damage, c.MissingHandles)
	}
	if surplus := len(c.Counts) + len(c.LeakedHandles); surplus > 0 != h.checked.now.surplus() {
		h.t.Fatalf("the check finds the counts %v and the leaked handles %v of %+v", c.Counts, c.LeakedHandles, h.checked.now)
	}
}

// stop ends what the other client is in the middle of.
func (h *history) stop() {
	for _, r := range h.running {
		r.stop()
	}
}

func blockOf(a netip.Addr) netip.Prefix {
	p, err := a.Prefix(30)
	if err != nil {
		panic(err)
	}
	return p
}

// holder is who has an address: the handle, and the number of the allocation. No handle: it cools down.
type holder struct {
	handle   string
	number   uint64
	released time.Time
}

// ground is the stored state, read without the code under test.
type ground struct {
	blocks  map[string]*stockBlock
	handles map[string]map[string]int
	holders map[netip.Addr]holder
}

func (g *ground) held(handle, block string) (n int) {
	for _, a := range g.heldBy(handle) {
		if blockOf(a).String() == block {
			n++
		}
	}
	return n
}

func (g *ground) heldBy(handle string) (all []netip.Addr) {
	for a, h := range g.holders {
		if h.handle == handle {
			all = append(all, a)
		}
	}
	return all
}

func (g *ground) surplus() bool {
	for handle, blocks := range g.handles {
		for block, n := range blocks {
			if n > g.held(handle, block) {
				return true
			}
		}
	}
	return false
}

func readGround(ctx context.Context, store kv.KV) (*ground, error) {
	g := &ground{blocks: map[string]*stockBlock{}, handles: map[string]map[string]int{}, holders: map[netip.Addr]holder{}}
	_, err := kv.Each(ctx, store, kv.Prefix(root), 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			if id, ok := strings.CutPrefix(entry.Key, root+"handle/"); ok {
				var h stockHandle
				if err := json.Unmarshal(entry.Value, &h); err != nil {
					return err
				}
				g.handles[id] = h.Block
			}
			if !strings.HasPrefix(entry.Key, root+"assignment/") {
				continue
			}
			b := &stockBlock{}
			if err := json.Unmarshal(entry.Value, b); err != nil {
				return err
			}
			g.blocks[b.CIDR] = b
			if err := g.addHolders(b); err != nil {
				return err
			}
		}
		return nil
	})
	return g, err
}

func (g *ground) addHolders(b *stockBlock) error {
	free := map[int]bool{}
	for _, at := range b.Unallocated {
		if free[at] {
			return fmt.Errorf("%s: ordinal %d is free twice", b.CIDR, at)
		}
		free[at] = true
	}
	used := map[int]bool{}
	for at, index := range b.Allocations {
		number, numbered := b.SequenceNumberForAllocation[fmt.Sprint(at)]
		if (index == nil) != free[at] || numbered != (index != nil) || number >= b.SequenceNumber {
			return fmt.Errorf("%s: ordinal %d is free and taken, or neither, or numbered %d at %d", b.CIDR, at, number, b.SequenceNumber)
		}
		if index == nil {
			continue
		}
		used[*index] = true
		is := holder{number: number}
		attribute := b.Attributes[*index]
		if attribute.HandleID != nil {
			is.handle = *attribute.HandleID
		} else {
			is.released = *attribute.ReleasedAt
		}
		g.holders[b.at(at)] = is
	}
	if len(used) != len(b.Attributes) {
		return fmt.Errorf("%s: %d attributes, of which %d are used", b.CIDR, len(b.Attributes), len(used))
	}
	return nil
}

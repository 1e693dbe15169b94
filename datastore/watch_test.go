package datastore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/datastore/kv/kvtest"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// consumer folds batches and checks the contract of Batch.
type consumer struct {
	t       *testing.T
	batches <-chan Batch
	known   told
	last    Batch
	invalid map[api.Key]string
	version map[api.Key]string // of the object that was told last
	history map[api.Key][]version

	restored bool // the store is, and what was told may be told again
}

func consume(t *testing.T, ctx context.Context, s *Store) *consumer {
	return &consumer{t: t, batches: s.Watch(ctx, quiet()), known: told{}, version: map[api.Key]string{}, history: map[api.Key][]version{}}
}

// until receives batches until a condition holds.
func (c *consumer) until(what string, holds func() bool) {
	c.t.Helper()
	for !holds() {
		select {
		case batch, ok := <-c.batches:
			if !ok {
				c.t.Fatalf("the watch ended before: %s", what)
			}
			c.take(batch)
		case <-time.After(lab.Patience):
			c.t.Fatalf("the watch is silent: %s; known at revision %d:\n%v", what, c.last.Revision, c.known)
		}
	}
}

func (c *consumer) take(batch Batch) {
	c.t.Helper()
	if c.last.InSync && !batch.InSync {
		c.t.Error("in sync, and then no more")
	}
	c.known.fold(c.t, batch.Updates)
	for _, u := range batch.Updates {
		version := ""
		if u.Object != nil {
			version = u.Object.Meta().ResourceVersion + " " + describeUpdate(u)
		}
		if version != "" && c.version[u.Key] == version && !c.restored {
			c.t.Errorf("%v at %s was told twice", u.Key, version)
		}
		c.version[u.Key] = version
		c.remember(u)
	}
	if batch.Invalid != nil {
		c.invalid = batch.Invalid
	}
	c.last = batch
}

// remember appends a policy's state to its history.
func (c *consumer) remember(u api.Update) {
	if c.history == nil || u.Key.Kind != "GlobalNetworkPolicy" {
		return
	}
	var v version
	if o, ok := u.Object.(*api.GlobalNetworkPolicy); ok && o != nil {
		v.selector = o.Spec.Selector
		v.revision, _ = parseVersion(o.ResourceVersion)
	}
	c.history[u.Key] = append(c.history[u.Key], v)
}

// reached says whether everything up to a revision was delivered.
func (c *consumer) reached(revision int64) func() bool {
	return func() bool { return c.last.InSync && c.last.Revision >= revision }
}

// listed returns the state of a consumer that starts now.
func listed(t *testing.T, s *Store) told {
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	c := consume(t, ctx, s)
	c.until("in sync", func() bool { return c.last.InSync })
	return c.known
}

func TestWatchDeliversEverythingAndThenEveryChange(t *testing.T) {
	onBoth(t, func(t *testing.T, store KV) {
		ctx, s := testContext(t), New(store)
		raw(t, store, policies+"a", string(entry("a", "all()", 0).Value))
		raw(t, store, "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26", `{"cidr":"10.0.0.0/26","affinity":"host:n1","allocations":[]}`)
		raw(t, store, "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-26", "")
		at := raw(t, store, "/calico/ipam/v2/handle/h", "{}")
		c := consume(t, ctx, s)
		c.until("in sync", c.reached(at))
		block := api.Key{Kind: "IPAMBlock", Name: "10.0.0.0-26"}
		affinity := api.Key{Kind: "BlockAffinity", Namespace: "n1", Name: "10.0.0.0-26"}
		if len(c.known) != 3 || c.known[block] == "" || c.known[affinity] == "" {
			t.Errorf("listed %v", c.known)
		}
		outcome, err := store.Commit(ctx, nil, []Write{
			{Key: policies + "a", Value: entry("a", "has(x)", 0).Value},
			{Key: policies + "b", Value: entry("b", "all()", 0).Value},
			{Key: "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26", Delete: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		c.until("the change", c.reached(outcome.Revision))
		if len(c.last.Updates) != 3 {
			t.Errorf("one revision came in pieces: %+v", c.last.Updates)
		}
		if diff := cmp.Diff(listed(t, s), c.known); diff != "" {
			t.Errorf("-listed +watched\n%s", diff)
		}
	})
}

func TestListsLongerThanAPage(t *testing.T) {
	onBoth(t, func(t *testing.T, store KV) {
		var at int64
		for i := range 50 {
			var writes []Write
			for j := range 50 {
				name := fmt.Sprintf("p%d-%d", i, j)
				writes = append(writes, Write{Key: policies + name, Value: entry(name, "all()", 0).Value})
			}
			outcome, err := store.Commit(testContext(t), nil, writes)
			if err != nil {
				t.Fatal(err)
			}
			at = outcome.Revision
		}
		c := consume(t, testContext(t), New(store))
		c.until("everything", c.reached(at))
		if len(c.known) != 2500 {
			t.Errorf("%d policies, want 2500", len(c.known))
		}
	})
}

func TestTheLastValidVersionStaysInForce(t *testing.T) {
	onBoth(t, func(t *testing.T, store KV) {
		ctx, s := testContext(t), New(store)
		key := api.Key{Kind: "GlobalNetworkPolicy", Name: "a"}
		raw(t, store, policies+"a", string(entry("a", "all()", 0).Value))
		c := consume(t, ctx, s)
		c.until("in sync", func() bool { return c.last.InSync })
		at := raw(t, store, policies+"a", `{"spec":{"selector":"(("}}`)
		c.until("the invalid value", c.reached(at))
		if c.known[key] != "a all() " || c.invalid[key] == "" {
			t.Errorf("known %q, invalid %v", c.known[key], c.invalid)
		}
		raw(t, store, policies+"a", `{"half`)
		// A consumer that starts now finds the valid version in the history.
		late := consume(t, ctx, s)
		late.until("in sync", func() bool { return late.last.InSync })
		if late.known[key] != "a all() " || late.invalid[key] == "" {
			t.Errorf("late: known %q, invalid %v", late.known[key], late.invalid)
		}
		at = raw(t, store, policies+"a", string(entry("a", "has(z)", 0).Value))
		c.until("the repaired value", c.reached(at))
		if c.known[key] != "a has(z) " || len(c.invalid) != 0 {
			t.Errorf("repaired: known %q, invalid %v", c.known[key], c.invalid)
		}
	})
}

// TestWatchIsOneHistory writes at random while the history is compacted, the connection breaks and the server does not answer. The
// delivered updates must add up to the stored state.
func TestWatchIsOneHistory(t *testing.T) {
	t.Parallel()
	for round := range 20 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			store := kvtest.NewMemory()
			faults := []func(){store.Compact, store.Interrupt, func() { store.Compact(); store.Interrupt() },
				func() { store.Offline(errors.New("away")); store.Compact(); store.Offline(nil) }}
			writeAtRandom(t, store, store, 300, faults)
		})
	}
}

// writeAtRandom writes to a store that is watched over another connection to it, which may be the same.
func writeAtRandom(t *testing.T, store, watched KV, steps int, faults []func()) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	ctx := testContext(t)
	c := consume(t, ctx, New(watched))
	names := strings.Fields("a b c d default.a default.b e f")
	var at int64
	for step := range steps {
		var writes []Write
		for _, i := range random.Perm(len(names))[:1+random.IntN(3)] {
			w := Write{Key: policies + names[i], Delete: random.IntN(3) == 0}
			if !w.Delete {
				w.Value = entry(names[i], fmt.Sprintf("%s == '%d'", strings.ReplaceAll(names[i], ".", "_"), step), 0).Value
			}
			writes = append(writes, w)
		}
		outcome, err := store.Commit(ctx, nil, writes)
		if err != nil {
			t.Fatal(err)
		}
		at = outcome.Revision
		if random.IntN(50) == 0 {
			faults[random.IntN(len(faults))]()
		}
		for random.IntN(4) == 0 { // a consumer takes batches when it has time
			select {
			case batch := <-c.batches:
				c.take(batch)
			case <-time.After(time.Millisecond):
			}
		}
	}
	c.until("everything", c.reached(at))
	if diff := cmp.Diff(listed(t, New(store)), c.known); diff != "" {
		t.Errorf("seed %d: -listed +watched\n%s", seed, diff)
	}
}

func TestWatchSurvivesCompactionAndRestartOfEtcd(t *testing.T) {
	t.Parallel()
	dir := lab.ShortDir(t)
	server := etcdlab.StartServer(t, dir)
	store := dial(t, server.Endpoint())
	ctx, s := testContext(t), New(store)
	c := consume(t, ctx, s)
	raw(t, store, policies+"a", string(entry("a", "all()", 0).Value))
	c.until("the first policy", func() bool { return len(c.known) == 1 })

	server.Close()
	server = etcdlab.StartServer(t, dir)
	other := dial(t, server.Endpoint())
	raw(t, other, policies+"b", string(entry("b", "all()", 0).Value))
	at := raw(t, other, policies+"a", string(entry("a", "has(x)", 0).Value))
	if _, err := other.Commit(ctx, nil, []Write{{Key: policies + "b", Delete: true}}); err != nil {
		t.Fatal(err)
	}
	if _, err := etcdlab.Admin(t, server.Endpoint()).Compact(ctx, at+1, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	at = raw(t, other, policies+"c", string(entry("c", "all()", 0).Value))
	c.until("the changes while it was away", c.reached(at))
	if diff := cmp.Diff(listed(t, New(other)), c.known); diff != "" {
		t.Errorf("-listed +watched\n%s", diff)
	}
}

func TestWatchIsOneHistoryOfEtcd(t *testing.T) {
	t.Parallel()
	server := etcdlab.StartServer(t, lab.ShortDir(t))
	direct, admin := dial(t, server.Endpoint()), etcdlab.Admin(t, server.Endpoint())
	address, disconnect := etcdlab.Front(t, strings.TrimPrefix(server.Endpoint(), "unix://"), nil)
	compact := func() {
		page, err := direct.Range(testContext(t), Span{From: "/", To: "0"}, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := admin.Compact(testContext(t), page.Revision); err != nil && !strings.Contains(err.Error(), "compacted") {
			t.Fatal(err)
		}
	}
	writeAtRandom(t, direct, dial(t, "http://"+address), 500, []func(){compact, disconnect, func() { disconnect(); compact() }})
}

// TestAWatchThatIsFarBehindMissesNothing begins more revisions ago than etcd sends at once.
func TestAWatchThatIsFarBehindMissesNothing(t *testing.T) {
	t.Parallel()
	store := dial(t, etcdlab.StartServer(t, lab.ShortDir(t)).Endpoint())
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	const count = 2500
	w := &watcher{kv: store, log: quiet(), view: newView(), out: make(chan Batch, 2*count)}
	if err := w.list(ctx); err != nil {
		t.Fatal(err)
	}
	var at int64
	for i := range count {
		at = raw(t, store, policies+fmt.Sprintf("p%d", i), string(entry("", "all()", 0).Value))
	}
	c := &consumer{t: t, batches: w.out, known: told{}, version: map[api.Key]string{}}
	ended := make(chan error)
	go func() { ended <- w.follow(ctx) }()
	c.until("everything", c.reached(at))
	cancel()
	<-ended
	if len(c.known) != count {
		t.Errorf("%d policies, want %d", len(c.known), count)
	}
}

// TestChangesOfOneTransactionArriveInOneBatch watches two objects that are only ever written in one transaction, through a
// consumer that falls behind and connections that break: after each batch both are of the same revision.
func TestChangesOfOneTransactionArriveInOneBatch(t *testing.T) {
	t.Parallel()
	server := etcdlab.StartServer(t, lab.ShortDir(t))
	direct := dial(t, server.Endpoint())
	address, disconnect := etcdlab.Front(t, strings.TrimPrefix(server.Endpoint(), "unix://"), nil)
	ctx := testContext(t)
	c := consume(t, ctx, New(dial(t, "http://"+address)))
	both := func(i int) int64 {
		value := entry("", fmt.Sprintf("has(x%d)", i), 0).Value
		outcome, err := direct.Commit(ctx, nil, []Write{{Key: policies + "a", Value: value}, {Key: policies + "z", Value: value}})
		if err != nil {
			t.Fatal(err)
		}
		return outcome.Revision
	}
	at := both(0)
	for i := range 1200 { // more revisions than etcd sends at once to one that is behind
		if at = both(i); i%400 == 200 {
			disconnect()
		}
		if i%10 == 0 && c.last.Revision < at {
			before := c.last.Revision
			c.until("the next batch", func() bool { return c.last.Revision > before })
			c.together("a", "z")
		}
	}
	for !c.reached(at)() {
		before := c.last.Revision
		c.until("the next batch", func() bool { return c.last.Revision > before })
		c.together("a", "z")
	}
	if len(c.known) != 2 {
		t.Errorf("known: %v", c.known)
	}
}

func (c *consumer) together(a, b string) {
	c.t.Helper()
	revision := func(name string) string {
		version, _, _ := strings.Cut(c.version[api.Key{Kind: "GlobalNetworkPolicy", Name: name}], " ")
		return version
	}
	if c.last.InSync && revision(a) != revision(b) {
		c.t.Fatalf("up to revision %d %s is of %q and %s of %q", c.last.Revision, a, revision(a), b, revision(b))
	}
}

func TestTheWatchEndsWithItsContext(t *testing.T) {
	onBoth(t, func(t *testing.T, store KV) {
		ctx, cancel := context.WithCancel(testContext(t))
		batches := New(store).Watch(ctx, quiet())
		<-batches
		cancel()
		for range batches {
		}
	})
}

func TestAReplacedStoreIsComparedCompletely(t *testing.T) {
	ctx := testContext(t)
	first, second := kvtest.NewMemory(), kvtest.NewMemory()
	for range 5 {
		raw(t, first, policies+"a", string(entry("a", "all()", 0).Value))
	}
	raw(t, first, policies+"gone", string(entry("gone", "all()", 0).Value))
	raw(t, second, policies+"a", string(entry("a", "has(restored)", 0).Value))
	swap := &swapped{KV: first}
	w := &watcher{kv: swap, log: quiet(), view: newView(), out: make(chan Batch, 10)}
	if err := w.list(ctx); err != nil {
		t.Fatal(err)
	}
	swap.KV = second
	if err := w.check(ctx); err == nil {
		t.Error("nobody noticed that the store is another one")
	}
	if err := w.list(ctx); err != nil {
		t.Fatal(err)
	}
	close(w.out)
	known := told{}
	for batch := range w.out {
		known.fold(t, batch.Updates)
	}
	want := told{{Kind: "GlobalNetworkPolicy", Name: "a"}: "a has(restored) "}
	if diff := cmp.Diff(want, known); diff != "" {
		t.Error(diff)
	}
}

type swapped struct{ KV }

// A restored store with new writes has known revisions with other contents.
func TestARestoredStoreWithNewWritesIsComparedCompletely(t *testing.T) {
	ctx := testContext(t)
	for name, c := range map[string]struct {
		compacted, noticed bool
	}{"with its history": {false, true}, "compacted": {true, false}} {
		first, second := kvtest.NewMemory(), kvtest.NewMemory()
		for _, store := range []KV{first, second} {
			raw(t, store, policies+"kept", string(entry("kept", "all()", 0).Value))
		}
		raw(t, first, policies+"lost", string(entry("lost", "all()", 0).Value))
		for range 5 {
			raw(t, second, policies+"new", string(entry("new", "all()", 0).Value))
		}
		swap := &swapped{KV: first}
		w := &watcher{kv: swap, log: quiet(), view: newView(), out: make(chan Batch, 10)}
		if err := w.list(ctx); err != nil {
			t.Fatal(err)
		}
		if c.compacted {
			second.Compact() // then the watch tells that the history is gone
		}
		swap.KV = second
		if err := w.prepare(ctx, errors.New("interrupted")); errors.Is(err, errReplaced) != c.noticed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALostConnectionIsNoReasonToReadEverything(t *testing.T) {
	t.Parallel()
	store := kvtest.NewMemory()
	raw(t, store, policies+"a", string(entry("a", "all()", 0).Value))
	counted := &counting{KV: store}
	c := consume(t, testContext(t), New(counted))
	c.until("in sync", func() bool { return c.last.InSync })
	before := counted.pages.Load()
	for i := range 3 {
		store.Interrupt()
		at := raw(t, store, policies+"a", string(entry("a", fmt.Sprintf("x == '%d'", i), 0).Value))
		c.until("a change after the interruption", c.reached(at))
	}
	if n := counted.pages.Load() - before; n != 0 {
		t.Errorf("%d pages were read again", n)
	}
}

// counting counts pages of lists.
type counting struct {
	KV
	pages atomic.Int64
}

func (c *counting) Range(ctx context.Context, span Span, revision int64, limit int) (Page, error) {
	if limit > 1 {
		c.pages.Add(1)
	}
	return c.KV.Range(ctx, span, revision, limit)
}

func TestAListBeginsAgainAfterACompaction(t *testing.T) {
	t.Parallel()
	store := kvtest.NewMemory()
	for i := range 2 * kv.PageSize {
		raw(t, store, policies+fmt.Sprintf("p%05d", i), string(entry("", "all()", 0).Value))
	}
	forgetful := &forgetful{KV: store, compact: func() {
		raw(t, store, policies+"p00000", string(entry("", "has(late)", 0).Value))
		store.Compact()
	}}
	for range 2 {
		forgetful.times.Store(2)
		objects, _, err := New(forgetful).List(testContext(t), "GlobalNetworkPolicy", "")
		if err != nil || len(objects) != 2*kv.PageSize {
			t.Errorf("listed %d: %v", len(objects), err)
		}
	}
	forgetful.times.Store(2)
	c := consume(t, testContext(t), New(forgetful))
	c.until("in sync", func() bool { return c.last.InSync })
	if diff := cmp.Diff(listed(t, New(store)), c.known); diff != "" {
		t.Errorf("-listed +watched\n%s", diff)
	}
	forgetful.times.Store(1000)
	if _, _, err := New(forgetful).List(testContext(t), "GlobalNetworkPolicy", ""); !errors.Is(err, ErrCompacted) {
		t.Errorf("without end: %v", err)
	}
}

// forgetful compacts its history after the first pages of lists.
type forgetful struct {
	KV
	compact func()
	times   atomic.Int64
}

func (c *forgetful) Range(ctx context.Context, span Span, revision int64, limit int) (Page, error) {
	page, err := c.KV.Range(ctx, span, revision, limit)
	if page.More && limit > 1 && c.times.Add(-1) >= 0 {
		c.compact()
	}
	return page, err
}

func TestAnInterruptedListingLosesNothing(t *testing.T) {
	ctx := testContext(t)
	store := kvtest.NewMemory()
	raw(t, store, policies+"a", string(entry("a", "all()", 0).Value))
	flaky := &breaking{KV: store}
	w := &watcher{kv: flaky, log: quiet(), view: newView(), out: make(chan Batch, 10)}
	if err := w.list(ctx); err != nil {
		t.Fatal(err)
	}
	raw(t, store, "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-26", "{}")
	raw(t, store, policies+"b", string(entry("b", "all()", 0).Value))
	flaky.failAfter = 3
	if err := w.list(ctx); err == nil {
		t.Fatal("the list did not break off")
	}
	flaky.failAfter = 0
	if err := w.list(ctx); err != nil {
		t.Fatal(err)
	}
	close(w.out)
	known, count := told{}, 0
	for batch := range w.out {
		count += len(batch.Updates)
		known.fold(t, batch.Updates)
	}
	if len(known) != 3 || count != 3 {
		t.Errorf("%d updates, known %v", count, known)
	}
}

// breaking fails after some requests.
type breaking struct {
	KV
	failAfter int
}

func (b *breaking) Range(ctx context.Context, span Span, revision int64, limit int) (Page, error) {
	if b.failAfter > 0 {
		if b.failAfter--; b.failAfter == 0 {
			b.failAfter = -1
		}
	}
	if b.failAfter < 0 {
		return Page{}, errors.New("broken")
	}
	return b.KV.Range(ctx, span, revision, limit)
}

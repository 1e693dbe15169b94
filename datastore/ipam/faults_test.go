package ipam_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// at lets one call of a program meet a fault.
func at(store kv.KV, call int, fault kvtest.Fault) *kvtest.Faulty {
	return &kvtest.Faulty{KV: store, Choose: func(n int) kvtest.Fault {
		if n == call {
			return fault
		}
		return kvtest.None
	}}
}

// Each operation meets each fault at each of its calls. Then it is repeated, as by a program that begins again. Afterwards everything
// is as if there had been no fault.
func TestAFaultAtAnyCallLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	operations := []struct {
		name   string
		action func(ctx context.Context, store kv.KV) error
		holds  int  // number of addresses that vm.a holds afterwards
		more   bool // or more: those that an attempt got before it died, of a request that is never met
	}{
		{"assign in two new blocks", func(ctx context.Context, store kv.KV) error {
			_, err := ipam.Assign(ctx, store, ipam.Request{Node: "n1", Handle: "vm.a", V4: 6})
			return err
		}, 6, false},
		{"assign and borrow", func(ctx context.Context, store kv.KV) error {
			_, err := ipam.Assign(ctx, store, ipam.Request{Node: "n1", Handle: "vm.a", V4: 10, V6: 1})
			return err
		}, 11, false},
		{"assign too many", func(ctx context.Context, store kv.KV) error {
			_, err := ipam.Assign(ctx, store, ipam.Request{Node: "n1", Handle: "vm.a", V4: 16})
			if _, short := errors.AsType[*ipam.ShortageError](err); short && !errors.Is(err, kvtest.ErrFault) {
				err = nil
			}
			return err
		}, 2, true},
		{"assign a given address", func(ctx context.Context, store kv.KV) error {
			return ipam.AssignAddress(ctx, store, ipam.Request{Node: "n1", Handle: "vm.a"}, addr("10.0.0.9"))
		}, 3, false},
		{"release one", func(ctx context.Context, store kv.KV) error {
			return ipam.ReleaseHeld(ctx, store, addr("10.0.0.1"), "vm.a")
		}, 1, false},
		{"release all", func(ctx context.Context, store kv.KV) error { return ipam.Release(ctx, store, "vm.a") }, 0, false},
	}
	for _, operation := range operations {
		for _, fault := range []kvtest.Fault{kvtest.Fails, kvtest.Lost, kvtest.Echo, kvtest.Dies, kvtest.DiesAfter} {
			for call, met := 1, true; met; call++ {
				store := kvtest.NewMemory()
				prepareForFaults(t, store)
				faulty := at(store, call, fault)
				_ = operation.action(t.Context(), faulty)
				met = faulty.Calls >= call
				noDamage(t, store)
				if err := operation.action(t.Context(), store); err != nil {
					t.Errorf("repeated: %v", err)
				}
				noDamage(t, store)
				held, err := ipam.Held(t.Context(), store, "vm.a")
				n := operation.holds
				if operation.more {
					n = max(n, len(held))
				}
				if all := runCheck(t, store).Allocations; err != nil || len(held) != n || len(all) != n+3 {
					t.Errorf("vm.a holds %v (%v); allocated are %v", held, err, all)
				}
				if t.Failed() {
					t.Fatalf("%s: fault %d at call %d", operation.name, fault, call)
				}
			}
		}
	}
}

// prepareForFaults makes two nodes with 16 IPv4 addresses. vm.a holds two of them on n1, and vm.b three on n2.
func prepareForFaults(t *testing.T, store kv.KV) {
	t.Helper()
	putNode(t, store, "n1", "")
	putNode(t, store, "n2", "")
	putPool(t, store, "v4", `"cidr":"10.0.0.0/28","blockSize":30`)
	putPool(t, store, "v6", `"cidr":"fd00::/64"`)
	for _, one := range []struct{ node, handle, addr string }{
		{"n1", "vm.a", "10.0.0.1"}, {"n1", "vm.a", "10.0.0.2"},
		{"n2", "vm.b", "10.0.0.4"}, {"n2", "vm.b", "10.0.0.5"}, {"n2", "vm.b", "10.0.0.12"},
	} {
		if err := ipam.AssignAddress(t.Context(), store, ipam.Request{Node: one.node, Handle: one.handle}, addr(one.addr)); err != nil {
			t.Fatal(err)
		}
	}
}

// noDamage fails the test if IPAM's records contradict each other.
func noDamage(t testing.TB, store kv.KV) *ipam.Check {
	t.Helper()
	c, err := ipam.RunCheck(context.Background(), store, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ipam.Damage{}, c.Damage); diff != "" || len(c.LeakedHandles)+len(c.MissingHandles) > 0 {
		t.Errorf("%s, handles %v and %v", diff, c.LeakedHandles, c.MissingHandles)
	}
	return c
}

var assignments = flag.Int("assignments", 2000, "assignments of the test with many writers that die")

// TestManyWritersThatDie lets 20 programs of 10 nodes assign and release at the same time, and each of them die again and again at any
// call. No address is assigned twice. Leaks are addresses whose program died and whose machine nobody asks for any more; ipam check
// finds them, and ipam release --from-report releases them.
func TestManyWritersThatDie(t *testing.T) {
	t.Parallel()
	runWriters(t, kvtest.NewMemory(), *assignments)
}

const writers = 20

func runWriters(t testing.TB, store kv.KV, assignments int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i := range 10 {
		putNodeIn(t, store, fmt.Sprint("n", i))
	}
	putIn(t, store, pools+"vms", `{"kind":"IPPool","metadata":{"name":"vms"},"spec":{"cidr":"10.0.0.0/18"}}`)
	var left atomic.Int64
	left.Store(int64(assignments))
	all := make([]*writer, writers)
	var running sync.WaitGroup
	for i := range all {
		w := &writer{TB: t, store: store, random: rand.New(rand.NewPCG(seed, uint64(i))), name: fmt.Sprint("w", i), node: fmt.Sprint("n", i%10),
			abandoned: map[string]bool{}}
		all[i] = w
		running.Go(func() {
			for !t.Failed() && left.Load() > 0 {
				w.act(&left)
			}
		})
	}
	running.Wait()
	deaths, abandoned := 0, map[string]bool{}
	for _, w := range all {
		deaths += w.deaths
		for handle := range w.abandoned {
			abandoned[handle] = true
		}
	}
	c := noDamage(t, store)
	if len(c.NotAllocated)+len(c.OutsidePools) > 0 {
		t.Errorf("in use and not allocated: %v %v", c.NotAllocated, c.OutsidePools)
	}
	leaks := leaksOf(c)
	for _, leak := range leaks {
		if !abandoned[leak.Handle] {
			t.Errorf("%v of %s is leaked, although its program lives", leak.Addr, leak.Handle)
		}
	}
	t.Logf("%d deaths, %d addresses in use, %d leaked", deaths, len(c.Workloads), len(leaks))
	if deaths == 0 || len(leaks) == 0 || len(c.Workloads) == 0 {
		t.Error("the test has tested nothing")
	}
	if _, err := c.ReleaseLeaks(context.Background(), store, leaks); err != nil {
		t.Error(err)
	}
	if c := noDamage(t, store); len(c.Leaks())+len(c.NotAllocated) > 0 || len(c.Allocations) != len(c.Workloads) {
		t.Errorf("after the release %v are leaked, and %d addresses allocated for %d endpoints", c.Leaks(), len(c.Allocations), len(c.Workloads))
	}
}

// writer is a program that makes machines and deletes them. It dies at random calls and begins again; the machines that it knew are
// then all that it remembers.
type writer struct {
	testing.TB
	store     kv.KV
	random    *rand.Rand
	name      string
	node      string
	serial    int
	deaths    int
	machines  []string
	abandoned map[string]bool // handles of machines that nobody asks for any more
}

// living returns the datastore as a new process sees it.
func (w *writer) living() kv.KV {
	return &kvtest.Faulty{KV: w.store, Choose: func(int) kvtest.Fault {
		if w.random.IntN(60) > 0 {
			return kvtest.None
		}
		return []kvtest.Fault{kvtest.Echo, kvtest.Lost, kvtest.Dies, kvtest.DiesAfter}[w.random.IntN(4)]
	}}
}

// until repeats an operation with new processes until one succeeds. It gives up at a death in one of some cases, if it may, and returns
// false then.
func (w *writer) until(mayGiveUp bool, operation func(kv.KV) error) bool {
	for {
		err := operation(w.living())
		switch {
		case err == nil:
			return true
		case !errors.Is(err, kvtest.ErrFault):
			w.Errorf("%s: %v", w.name, err)
			return false
		}
		w.deaths++
		if mayGiveUp && w.random.IntN(4) == 0 {
			return false
		}
	}
}

func (w *writer) act(left *atomic.Int64) {
	if len(w.machines) > 0 && w.random.IntN(10) < 4 {
		at := w.random.IntN(len(w.machines))
		w.remove(w.machines[at])
		w.machines = slices.Delete(w.machines, at, at+1)
		return
	}
	w.serial++
	name := fmt.Sprintf("%s-vm%d", w.name, w.serial)
	n := 1 + w.random.IntN(3)
	made := w.until(true, func(store kv.KV) error {
		addrs, err := ipam.Assign(context.Background(), store, ipam.Request{Node: w.node, Handle: "vm." + name, V4: n, Attributes: map[string]string{"node": w.node}})
		if err != nil {
			return err
		}
		if len(addrs) != n {
			w.Errorf("%s: %d addresses: %v", name, n, addrs)
		}
		return put1(store, endpoints+name, endpointValue(name, w.node, addrs))
	})
	if made {
		w.machines = append(w.machines, name)
	} else { // the machine may be there; then it is deleted, as far as that goes
		w.abandoned["vm."+name] = true
		delete := kv.Write{Key: endpoints + name, Delete: true}
		if _, err := w.store.Commit(context.Background(), nil, []kv.Write{delete}); err != nil {
			w.Error(err)
		}
	}
	left.Add(-int64(n))
}

// remove deletes a machine and then releases its addresses. If it gives up in between, they are leaked.
func (w *writer) remove(name string) {
	w.until(false, func(store kv.KV) error {
		_, err := store.Commit(context.Background(), nil, []kv.Write{{Key: endpoints + name, Delete: true}})
		return err
	})
	if !w.until(true, func(store kv.KV) error { return ipam.Release(context.Background(), store, "vm."+name) }) {
		w.abandoned["vm."+name] = true
	}
}

const endpoints = resourceRoot + "workloadendpoints/shop/"

func endpointValue(name, node string, addrs []netip.Addr) string {
	networks := ""
	for i, a := range addrs {
		if i > 0 {
			networks += ","
		}
		networks += `"` + a.String() + `/32"`
	}
	return fmt.Sprintf(`{"kind":"WorkloadEndpoint","metadata":{"name":"%s","namespace":"shop"},"spec":{"node":"%s","ipNetworks":[%s]}}`, name, node, networks)
}

func put1(store kv.KV, key, value string) error {
	_, err := store.Commit(context.Background(), nil, []kv.Write{{Key: key, Value: []byte(value)}})
	return err
}

func putIn(t testing.TB, store kv.KV, key, value string) {
	t.Helper()
	if err := put1(store, key, value); err != nil {
		t.Fatal(err)
	}
}

func putNodeIn(t testing.TB, store kv.KV, name string) {
	t.Helper()
	putIn(t, store, nodes+name, `{"kind":"Node","metadata":{"name":"`+name+`"},"spec":{}}`)
}

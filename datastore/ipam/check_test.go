package ipam_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// during is a KV in which something happens after each reading.
type during struct {
	kv.KV
	reading func(n int)
	n       int
}

func (d *during) Range(ctx context.Context, span kv.Span, revision int64, limit int) (kv.Page, error) {
	page, err := d.KV.Range(ctx, span, revision, limit)
	d.n++
	d.reading(d.n)
	return page, err
}

func reserve(t *testing.T, store kv.KV, text, handle string) {
	t.Helper()
	if err := ipam.Reserve(t.Context(), store, "n1", addr(text), handle, nil); err != nil {
		t.Fatal(err)
	}
}

func runCheck(t *testing.T, store kv.KV) *ipam.Check {
	t.Helper()
	c, err := ipam.RunCheck(t.Context(), store, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func leaksOf(c *ipam.Check) (leaks []ipam.Leak) {
	for _, a := range c.Leaks() {
		for _, allocation := range c.Allocations[a] {
			leaks = append(leaks, ipam.Leak{Addr: a, Handle: allocation.Handle, Sequence: allocation.Sequence})
		}
	}
	return leaks
}

func TestACheckReadsOneRevision(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		reserve(t, store, "10.0.0.1", "vm.1")
		want := runCheck(t, store)
		got := runCheck(t, &during{KV: store, reading: func(n int) {
			reserve(t, store, fmt.Sprintf("10.0.1.%d", n), fmt.Sprintf("late.%d", n))
			put(t, store, workloads+fmt.Sprint("prod/w", n), fmt.Sprintf(`{"spec":{"ipNetworks":["10.0.2.%d/32"]}}`, n))
		}})
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Errorf("(- before, + while others write)\n%s", diff)
		}
	})
}

func TestACheckBeginsAgainAfterACompaction(t *testing.T) {
	t.Parallel()
	memory := kvtest.NewMemory()
	put(t, memory, pools+"v4", `{"metadata":{"name":"v4"},"spec":{"cidr":"10.0.0.0/16","blockSize":30}}`)
	reserve(t, memory, "10.0.0.1", "vm.1")
	c := runCheck(t, &during{KV: memory, reading: func(n int) {
		if n == 3 || n == 9 {
			reserve(t, memory, fmt.Sprintf("10.0.1.%d", n), "vm.1")
			memory.Compact()
		}
	}})
	if len(c.Allocations) != 3 || len(c.Counts)+len(c.LeakedHandles)+len(c.MissingHandles) > 0 {
		t.Errorf("%d allocations, %+v", len(c.Allocations), c.Damage)
	}
}

// unreliable is a KV of which some commits fail.
type unreliable struct {
	kv.KV
	fails func(writes []kv.Write) bool
}

var errGone = errors.New("the datastore is gone")

func (u unreliable) Commit(ctx context.Context, conditions []kv.Condition, writes []kv.Write) (kv.Outcome, error) {
	if u.fails(writes) {
		return kv.Outcome{}, errGone
	}
	return u.KV.Commit(ctx, conditions, writes)
}

func TestAnInterruptedReleaseSaysWhichAddressesAreReleased(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		for _, text := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.5", "10.0.0.9"} {
			reserve(t, store, text, "vm."+text)
		}
		c := runCheck(t, store)
		freed, err := c.ReleaseLeaks(ctx, unreliable{store, func(writes []kv.Write) bool {
			return slices.ContainsFunc(writes, func(w kv.Write) bool { return strings.HasSuffix(w.Key, "10.0.0.4-30") })
		}}, leaksOf(c))
		if !errors.Is(err, errGone) || !strings.Contains(err.Error(), "release leaked addresses of block 10.0.0.4/30") {
			t.Errorf("error %v", err)
		}
		want := ipam.Freed{Released: []netip.Addr{addr("10.0.0.1"), addr("10.0.0.2")}}
		if diff := cmp.Diff(want, freed, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Error(diff)
		}
		after := runCheck(t, store)
		if got := fmt.Sprint(after.Leaks()); got != "[10.0.0.5 10.0.0.9]" || len(after.LeakedHandles)+len(after.Counts) > 0 {
			t.Errorf("left: %v, %v, %v", got, after.LeakedHandles, after.Counts)
		}
	})
}

func TestDamageOfOneBlockKeepsNoOtherFromBeingReleased(t *testing.T) {
	t.Parallel()
	store := kvtest.NewMemory()
	put(t, store, pools+"v4", `{"metadata":{"name":"v4"},"spec":{"cidr":"10.0.0.0/16","blockSize":30}}`)
	for _, text := range []string{"10.0.0.1", "10.0.0.5", "10.0.0.9"} {
		reserve(t, store, text, "vm."+text)
	}
	c := runCheck(t, store)
	put(t, store, root+"assignment/ipv4/block/10.0.0.0-30", `{"allocations":`)
	put(t, store, root+"handle/vm.10.0.0.5", `[]`)
	freed, err := c.ReleaseLeaks(t.Context(), store, leaksOf(c))
	if fmt.Sprint(freed.Released) != "[10.0.0.9]" || len(freed.Gone)+len(freed.Kept) > 0 {
		t.Errorf("freed %+v", freed)
	}
	for _, name := range []string{"block 10.0.0.0/30", "handle vm.10.0.0.5"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not name %s", err, name)
		}
	}
}

func TestABlockOfManyHandlesIsReleasedInParts(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		put(t, store, pools+"wide", `{"metadata":{"name":"wide"},"spec":{"cidr":"10.1.0.0/16","blockSize":24}}`)
		for i := range 150 {
			reserve(t, store, fmt.Sprintf("10.1.0.%d", i), fmt.Sprintf("vm.%d", i))
		}
		c := runCheck(t, store)
		freed, err := c.ReleaseLeaks(ctx, store, leaksOf(c))
		if err != nil || len(freed.Released) != 150 {
			t.Errorf("%d released, %v", len(freed.Released), err)
		}
		if after := runCheck(t, store); len(after.Allocations)+len(after.LeakedHandles)+len(after.InvalidBlocks) > 0 {
			t.Errorf("left: %v %v %v", after.Allocations, after.LeakedHandles, after.InvalidBlocks)
		}
	})
}

func TestALeakedHandleStaysOnceABlockNamesIt(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		put(t, store, root+"handle/vm.a", `{"block":{"10.0.0.0/30":1},"deleted":false}`)
		c := runCheck(t, store)
		if len(c.LeakedHandles) != 1 {
			t.Fatalf("leaked handles %v", c.LeakedHandles)
		}
		leaked := c.LeakedHandles[0]
		// Another client was between its two writes: now the block names the handle, which did not change.
		put(t, store, root+"assignment/ipv4/block/10.0.0.0-30", `{"cidr":"10.0.0.0/30","affinity":null,"allocations":[0,null,null,null],"unallocated":[1,2,3],`+
			`"attributes":[{"handle_id":"vm.a"}],"sequenceNumber":2,"sequenceNumberForAllocation":{"0":1},"deleted":false}`)
		if done, err := runCheck(t, store).ReleaseHandle(ctx, store, leaked); done || err != nil {
			t.Errorf("released: %v, %v", done, err)
		}
		if done, err := c.ReleaseHandle(ctx, store, leaked); !done || err != nil {
			t.Errorf("by the old check: %v, %v", done, err)
		}
		if done, err := c.ReleaseHandle(ctx, store, leaked); done || err != nil {
			t.Errorf("a second time: %v, %v", done, err)
		}
	})
}

const workloads = "/calico/resources/v3/projectcalico.org/workloadendpoints/"

func TestTunnelsOfEveryKindAreInUse(t *testing.T) {
	t.Parallel()
	store := kvtest.NewMemory()
	put(t, store, pools+"v4", `{"metadata":{"name":"v4"},"spec":{"cidr":"10.0.0.0/16","blockSize":29}}`)
	put(t, store, pools+"v6", `{"metadata":{"name":"v6"},"spec":{"cidr":"fd00::/48"}}`)
	put(t, store, "/calico/resources/v3/projectcalico.org/nodes/n1", `{"spec":{"ipv4VXLANTunnelAddr":"10.0.0.1","ipv6VXLANTunnelAddr":"fd00::1",`+
		`"bgp":{"ipv4Address":"192.0.2.1/24","ipv4IPIPTunnelAddr":"10.0.0.2"},"wireguard":{"interfaceIPv4Address":"10.0.0.3","interfaceIPv6Address":"fd00::2"}}}`)
	for _, text := range []string{"10.0.0.1", "fd00::1", "10.0.0.2", "10.0.0.3", "fd00::2", "10.0.0.4"} {
		reserve(t, store, text, "tunnel."+text)
	}
	c := runCheck(t, store)
	if got := fmt.Sprint(c.Leaks(), len(c.Tunnels), c.OutsidePools); got != "[10.0.0.4] 5 []" {
		t.Errorf("leaks, tunnels and addresses outside: %s", got)
	}
}

func FuzzCheckOfAnyStoredValue(f *testing.F) {
	for _, value := range []string{
		`{"cidr":"10.0.0.0/30","allocations":[0,-1,9,null],"unallocated":[-1,9,3,3],"attributes":[{"handle_id":"a","releasedAt":"2020-01-01T00:00:00Z"}]}`,
		`{"cidr":"10.0.0.0/30","affinity":"host:","allocations":[null,null,null,null],"attributes":null}`,
		`{"block":{"10.0.0.0/30":-1,"x":2}}`, `{"state":7}`, `{"spec":{"cidr":"10.0.0.0/99"}}`, `{"spec":{"ipNetworks":["x",""]}}`, `[]`, `null`, ``,
	} {
		f.Add(value)
	}
	keys := []string{
		root + "assignment/ipv4/block/10.0.0.0-30", root + "host/n/ipv4/block/10.0.0.0-30", root + "handle/a", root + "config",
		pools + "p", workloads + "ns/w", "/calico/resources/v3/projectcalico.org/nodes/n",
		"/calico/resources/v3/projectcalico.org/clusterinformations/default", "/calico/resources/v3/projectcalico.org/ipreservations/r",
	}
	f.Fuzz(func(t *testing.T, value string) {
		store := kvtest.NewMemory()
		put(t, store, root+"assignment/ipv4/block/10.0.0.4-30", `{"cidr":"10.0.0.4/30","allocations":[0,null,null,null],"unallocated":[1,2,3],`+
			`"attributes":[{"handle_id":"b"}],"sequenceNumber":2,"sequenceNumberForAllocation":{"0":1}}`)
		for _, key := range keys {
			put(t, store, key, value)
		}
		c := runCheck(t, store)
		if _, err := c.ReleaseLeaks(t.Context(), store, leaksOf(c)); err != nil && c.Blind() == nil {
			t.Logf("release: %v", err)
		}
		for _, handle := range c.LeakedHandles {
			if _, err := c.ReleaseHandle(t.Context(), store, handle); err != nil {
				t.Fatal(err)
			}
		}
		runCheck(t, store)
	})
}

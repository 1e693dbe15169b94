package ipam_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/datastore/kv/kvtest"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

const (
	root  = "/calico/ipam/v2/"
	pools = "/calico/resources/v3/projectcalico.org/ippools/"
)

// onBoth runs a test against memory and against a real etcd, with a pool for each family.
func onBoth(t *testing.T, test func(t *testing.T, ctx context.Context, store kv.KV)) {
	ctx := t.Context()
	run := func(t *testing.T, store kv.KV) {
		put(t, store, pools+"v4", `{"metadata":{"name":"v4"},"spec":{"cidr":"10.0.0.0/16","blockSize":30}}`)
		put(t, store, pools+"v6", `{"metadata":{"name":"v6"},"spec":{"cidr":"fd00::/48"}}`)
		test(t, ctx, store)
	}
	t.Run("memory", func(t *testing.T) { run(t, kvtest.NewMemory()) })
	t.Run("etcd", func(t *testing.T) {
		server := etcdlab.StartServer(t, lab.ShortDir(t))
		store, err := etcd.Dial(ctx, etcd.Config{Endpoints: []string{server.Endpoint()}, DialTimeout: lab.Patience})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		run(t, store)
	})
}

func put(t *testing.T, store kv.KV, key, value string) {
	t.Helper()
	if _, err := store.Commit(context.Background(), nil, []kv.Write{{Key: key, Value: []byte(value)}}); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, store kv.KV, key string) string {
	t.Helper()
	entry, err := kv.Get(context.Background(), store, key, 0)
	if err != nil {
		t.Fatal(err)
	}
	if entry == nil {
		return ""
	}
	return string(entry.Value)
}

func block(t *testing.T, store kv.KV, name string) *api.IPAMBlock {
	t.Helper()
	o, err := api.DecodeStored("IPAMBlock", []byte(read(t, store, root+"assignment/ipv4/block/"+name)))
	if err != nil {
		t.Fatal(err)
	}
	return o.(*api.IPAMBlock)
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func TestReserveClaimsTheBlockAndAssignsTheAddress(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		attributes := map[string]string{"node": "n1", "namespace": "prod"}
		if err := ipam.Reserve(ctx, store, "n1", addr("10.0.0.6"), "vm.a", attributes); err != nil {
			t.Fatal(err)
		}
		b := block(t, store, "10.0.0.4-30")
		got := fmt.Sprintf("%s %s %v %v %v", b.CIDR, *b.Affinity, *b.Allocations[2], b.Unallocated, *b.Attributes[0].HandleID)
		if want := "10.0.0.4/30 host:n1 0 [0 1 3] vm.a"; got != want {
			t.Errorf("block %s, want %s", got, want)
		}
		if b.SequenceNumberForAllocation["2"]+1 != b.SequenceNumber {
			t.Errorf("sequence numbers %d and %v", b.SequenceNumber, b.SequenceNumberForAllocation)
		}
		if got, want := read(t, store, root+"host/n1/ipv4/block/10.0.0.4-30"), `{"state":"confirmed","deleted":false}`; got != want {
			t.Errorf("affinity %s, want %s", got, want)
		}
		if got, want := read(t, store, root+"handle/vm.a"), `{"block":{"10.0.0.4/30":1},"deleted":false}`; got != want {
			t.Errorf("handle %s, want %s", got, want)
		}
		if err := ipam.Reserve(ctx, store, "n1", addr("fd00::7"), "vm.a", attributes); err != nil {
			t.Fatal(err)
		}
		if read(t, store, root+"assignment/ipv6/block/fd00::-122") == "" {
			t.Error("no IPv6 block of the default size")
		}
	})
}

func TestReserveTwiceChangesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		for _, handle := range []string{"vm.a", "vm.a", "vm.b"} {
			if err := ipam.Reserve(ctx, store, "n1", addr("10.0.0.6"), handle, nil); err != nil {
				t.Fatal(err)
			}
		}
		if b := block(t, store, "10.0.0.4-30"); len(b.Attributes) != 1 || read(t, store, root+"handle/vm.b") != "" {
			t.Errorf("attributes %v", b.Attributes)
		}
	})
}

func TestReserveInTheBlockOfAnotherNode(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		reserve := func(node, address string) error {
			return ipam.Reserve(ctx, store, node, addr(address), "vm."+address, nil)
		}
		if err := errors.Join(reserve("n1", "10.0.0.4"), reserve("n2", "10.0.0.5")); err != nil {
			t.Fatal(err)
		}
		put(t, store, root+"config", `{"strict_affinity":true,"auto_allocate_blocks":true}`)
		if err := reserve("n2", "10.0.0.6"); err == nil || !strings.Contains(err.Error(), "belongs to host:n1") {
			t.Errorf("strict: %v", err)
		}
		if err := reserve("n1", "10.0.0.6"); err != nil {
			t.Errorf("its own block: %v", err)
		}
	})
}

func TestReserveSaysWhyItFails(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		if err := ipam.Reserve(ctx, store, "n1", addr("192.0.2.1"), "h", nil); !errors.Is(err, ipam.ErrNoPool) {
			t.Errorf("no pool: %v", err)
		}
		put(t, store, pools+"off", `{"spec":{"cidr":"10.1.0.0/16","disabled":true}}`)
		if err := ipam.Reserve(ctx, store, "n1", addr("10.1.0.1"), "h", nil); err == nil || !strings.Contains(err.Error(), "IPPool off is disabled") {
			t.Errorf("disabled: %v", err)
		}
		put(t, store, root+"assignment/ipv4/block/10.0.0.0-31", `{"cidr":"10.0.0.0/31","allocations":[null,null]}`)
		if err := ipam.Reserve(ctx, store, "n1", addr("10.0.0.3"), "h", nil); err == nil || !strings.Contains(err.Error(), "10.0.0.0/31") {
			t.Errorf("a block of another size in the way: %v", err)
		}
		if err := ipam.Reserve(ctx, store, "n1", addr("10.0.0.1"), "h", nil); err != nil {
			t.Errorf("in a block of another size: %v", err)
		}
		put(t, store, root+"config", `{}`)
		if err := ipam.Reserve(ctx, store, "n1", addr("10.0.9.1"), "h", nil); err == nil || !strings.Contains(err.Error(), "auto_allocate_blocks") {
			t.Errorf("no new blocks: %v", err)
		}
	})
}

func TestReleaseReleasesEveryAddress(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		for _, address := range []string{"10.0.0.4", "10.0.0.6", "10.0.0.9"} {
			if err := ipam.Reserve(ctx, store, "n1", addr(address), "vm.a", nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := ipam.Reserve(ctx, store, "n1", addr("10.0.0.5"), "vm.b", nil); err != nil {
			t.Fatal(err)
		}
		if err := ipam.Release(ctx, store, "vm.a"); err != nil {
			t.Fatal(err)
		}
		b := block(t, store, "10.0.0.4-30")
		got := fmt.Sprintf("%v %v %d %v", b.Unallocated, *b.Attributes[*b.Allocations[1]].HandleID, len(b.Attributes), len(b.SequenceNumberForAllocation))
		if want := "[3 0 2] vm.b 1 1"; got != want {
			t.Errorf("block %s, want %s", got, want)
		}
		if read(t, store, root+"handle/vm.a") != "" {
			t.Error("the handle is left")
		}
		if err := ipam.Release(ctx, store, "vm.a"); err != nil {
			t.Errorf("a second time: %v", err)
		}
	})
}

func TestReleasedAddressesCoolDown(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		put(t, store, root+"config", `{"auto_allocate_blocks":true,"ipCooldownSeconds":3600}`)
		reserve := func(address, handle string) {
			if err := ipam.Reserve(ctx, store, "n1", addr(address), handle, nil); err != nil {
				t.Fatal(err)
			}
		}
		reserve("10.0.0.4", "vm.a")
		if err := ipam.Release(ctx, store, "vm.a"); err != nil {
			t.Fatal(err)
		}
		if b := block(t, store, "10.0.0.4-30"); b.Allocations[0] == nil || b.Attributes[*b.Allocations[0]].ReleasedAt == nil {
			t.Errorf("not cooling down: %+v", b)
		}
		reserve("10.0.0.5", "vm.b")
		reserve("10.0.0.4", "vm.c") // whoever writes an address by hand does not wait
		b := block(t, store, "10.0.0.4-30")
		if *b.Attributes[*b.Allocations[0]].HandleID != "vm.c" || len(b.Unallocated) != 2 {
			t.Errorf("block %+v", b)
		}
	})
}

func TestFieldsOfOtherVersionsStay(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		put(t, store, root+"assignment/ipv4/block/10.0.0.4-30", `{"cidr":"10.0.0.4/30","affinity":"host:n1","allocations":[1,null,null,null],`+
			`"unallocated":[1,2,3],"attributes":[{"handle_id":"old"},{"handle_id":"h","alternateOwnerAttrs":{"a":"b"}}],"sequenceNumber":5,`+
			`"sequenceNumberForAllocation":{"0":4},"deleted":false,"future":1}`)
		if err := ipam.Reserve(ctx, store, "n1", addr("10.0.0.5"), "vm.a", nil); err != nil {
			t.Fatal(err)
		}
		var b struct {
			Allocations []*int
			Attributes  []map[string]any
			Future      int
		}
		if err := json.Unmarshal([]byte(read(t, store, root+"assignment/ipv4/block/10.0.0.4-30")), &b); err != nil {
			t.Fatal(err)
		}
		if b.Future != 1 || b.Attributes[*b.Allocations[0]]["alternateOwnerAttrs"] == nil || b.Attributes[*b.Allocations[0]]["handle_id"] != "h" {
			t.Errorf("block %+v", b)
		}
	})
}

// TestManyAllocatorsAtOnce has several nodes reserve and release the same addresses, and then counts.
func TestManyAllocatorsAtOnce(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		var wait sync.WaitGroup
		for worker := range 4 {
			wait.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(worker)))
				for range 40 {
					handle := fmt.Sprintf("vm.%d", random.IntN(5))
					var err error
					if random.IntN(3) == 0 {
						err = ipam.Release(ctx, store, handle)
					} else {
						err = ipam.Reserve(ctx, store, fmt.Sprintf("n%d", worker), addr(fmt.Sprintf("10.0.0.%d", random.IntN(16))), handle, nil)
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
		audit(t, ctx, store)
	})
}

// audit checks that blocks, handles and affinities agree.
func audit(t *testing.T, ctx context.Context, store kv.KV) {
	t.Helper()
	held, counted := map[string]int{}, map[string]int{}
	_, err := kv.Each(ctx, store, kv.Prefix(root), 0, func(page kv.Page) error {
		for _, entry := range page.Entries {
			if id, ok := strings.CutPrefix(entry.Key, root+"handle/"); ok {
				var handle struct{ Block map[string]int }
				if err := json.Unmarshal(entry.Value, &handle); err != nil {
					return err
				}
				for cidr, n := range handle.Block {
					counted[id+" "+cidr] = n
				}
			}
			if _, ok := ipam.ParseBlockKey(entry.Key); ok {
				auditBlock(t, store, entry, held)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(held) != fmt.Sprint(counted) {
		t.Errorf("held    %v\ncounted %v", held, counted)
	}
}

func auditBlock(t *testing.T, store kv.KV, entry kv.Entry, held map[string]int) {
	t.Helper()
	o, err := api.DecodeStored("IPAMBlock", entry.Value)
	if err != nil {
		t.Fatal(err)
	}
	b, cidr := o.(*api.IPAMBlock), netip.MustParsePrefix(o.(*api.IPAMBlock).CIDR)
	free := map[int]bool{}
	for _, at := range b.Unallocated {
		if free[at] || b.Allocations[at] != nil {
			t.Errorf("block %v: ordinal %d is free and taken, or free twice", cidr, at)
		}
		free[at] = true
	}
	for at, index := range b.Allocations {
		if (index == nil) != free[at] {
			t.Errorf("block %v: ordinal %d is neither free nor taken", cidr, at)
		}
		if index != nil {
			held[*b.Attributes[*index].HandleID+" "+b.CIDR]++
		}
	}
	if len(b.SequenceNumberForAllocation) != len(b.Allocations)-len(b.Unallocated) {
		t.Errorf("block %v: %d sequence numbers", cidr, len(b.SequenceNumberForAllocation))
	}
	node := strings.TrimPrefix(*b.Affinity, "host:")
	if !strings.Contains(read(t, store, ipam.AffinityKey(node, cidr)), "confirmed") {
		t.Errorf("block %v: its owner %s has no confirmed affinity", cidr, node)
	}
}

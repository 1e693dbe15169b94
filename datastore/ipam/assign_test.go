package ipam_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

const (
	resourceRoot = "/calico/resources/v3/projectcalico.org/"
	nodes        = resourceRoot + "nodes/"
)

// putNode creates a Node with labels such as "rack": "1".
func putNode(t *testing.T, store kv.KV, name, labels string) {
	t.Helper()
	put(t, store, nodes+name, `{"kind":"Node","metadata":{"name":"`+name+`","labels":{`+labels+`}},"spec":{}}`)
}

func putPool(t *testing.T, store kv.KV, name, spec string) {
	t.Helper()
	put(t, store, pools+name, `{"kind":"IPPool","metadata":{"name":"`+name+`"},"spec":{`+spec+`}}`)
}

// assign requests n IPv4 addresses for the handle vm.NAME on a node.
func assign(t *testing.T, store kv.KV, node, name string, n int, pools ...string) ([]netip.Addr, error) {
	t.Helper()
	return ipam.Assign(t.Context(), store, ipam.Request{Node: node, Handle: "vm." + name, V4: n, Pools: pools, Attributes: map[string]string{"node": node}})
}

func mustAssign(t *testing.T, store kv.KV, node, name string, n int, pools ...string) []netip.Addr {
	t.Helper()
	addrs, err := assign(t, store, node, name, n, pools...)
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}

// The stored values must be those that Calico's clients write: see the samples of a Calico datastore.
func TestAssignStoresWhatCalicoStores(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		putNode(t, store, "vm-host1", "")
		putPool(t, store, "v4", `"cidr":"10.0.0.0/30","blockSize":30`)
		for _, holder := range []struct {
			handle     string
			attributes map[string]string
		}{
			{"vxlan-tunnel-addr-vm-host1", map[string]string{"node": "vm-host1", "type": "vxlanTunnelAddress"}},
			{"net1.vm-42", map[string]string{"namespace": "prod", "node": "vm-host1", "pod": "vm-42"}},
		} {
			if _, err := ipam.Assign(ctx, store, ipam.Request{Node: "vm-host1", Handle: holder.handle, Attributes: holder.attributes, V4: 1}); err != nil {
				t.Fatal(err)
			}
		}
		got := read(t, store, root+"assignment/ipv4/block/10.0.0.0-30")
		var numbers struct {
			SequenceNumber              uint64
			SequenceNumberForAllocation map[string]uint64
		}
		if err := json.Unmarshal([]byte(got), &numbers); err != nil {
			t.Fatal(err)
		}
		created := numbers.SequenceNumber - 2
		if now := time.Now().UnixNano(); created > uint64(now) || created < uint64(now-time.Hour.Nanoseconds()) {
			t.Errorf("the first sequence number %d is not the time of the creation, %d", created, now)
		}
		claimed := regexp.MustCompile(`"affinity_claim_time":"[0-9-]{10}T[0-9:]{8}Z"`).FindString(got)
		want := fmt.Sprintf(`{"cidr":"10.0.0.0/30","affinity":"host:vm-host1",%s,"allocations":[0,1,null,null],"unallocated":[2,3],"attributes":`+
			`[{"handle_id":"vxlan-tunnel-addr-vm-host1","secondary":{"node":"vm-host1","type":"vxlanTunnelAddress"}},`+
			`{"handle_id":"net1.vm-42","secondary":{"namespace":"prod","node":"vm-host1","pod":"vm-42"}}],`+
			`"sequenceNumber":%d,"sequenceNumberForAllocation":{"0":%d,"1":%d},"deleted":false}`, claimed, created+2, created, created+1)
		if claimed == "" || got != want {
			t.Errorf("block\n%s\nwant\n%s", got, want)
		}
		if got, want := read(t, store, root+"host/vm-host1/ipv4/block/10.0.0.0-30"), `{"state":"confirmed","deleted":false}`; got != want {
			t.Errorf("claim %s, want %s", got, want)
		}
		if got, want := read(t, store, root+"handle/net1.vm-42"), `{"block":{"10.0.0.0/30":1},"deleted":false}`; got != want {
			t.Errorf("handle %s, want %s", got, want)
		}
	})
}

// A program that repeats a request, because it lost the answer, gets the same addresses.
func TestARepeatedRequestGetsTheSameAddresses(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		putNode(t, store, "n1", "")
		request := ipam.Request{Node: "n1", Handle: "vm.a", V4: 6, V6: 2}
		first, err := ipam.Assign(ctx, store, request)
		if err != nil || len(first) != 8 {
			t.Fatal(first, err)
		}
		second, err := ipam.Assign(ctx, store, request)
		if err != nil || !slices.Equal(first, second) {
			t.Errorf("%v, then %v (%v)", first, second, err)
		}
		request.V4 = 7
		third, err := ipam.Assign(ctx, store, request)
		if err != nil || len(third) != 9 {
			t.Errorf("one more: %v (%v)", third, err)
		}
		if err := ipam.Release(ctx, store, "vm.a"); err != nil {
			t.Fatal(err)
		}
		if c := runCheck(t, store); len(c.Allocations)+len(c.LeakedHandles) > 0 {
			t.Errorf("left after the release: %v %v", c.Allocations, c.LeakedHandles)
		}
	})
}

func TestAFullNodeBorrows(t *testing.T) {
	t.Parallel()
	store := kvtest.NewMemory()
	putNode(t, store, "n1", "")
	putNode(t, store, "n2", "")
	putPool(t, store, "p", `"cidr":"10.0.0.0/29","blockSize":30`)
	mustAssign(t, store, "n2", "b", 3)
	mustAssign(t, store, "n1", "a", 4)
	borrowed := mustAssign(t, store, "n1", "c", 1)
	if b, _, err := ipam.Lookup(t.Context(), store, borrowed[0]); err != nil || !b.Borrowed() || b.Owner != "host:n2" {
		t.Errorf("%+v, %v", b, err)
	}
	if c := runCheck(t, store); len(c.Affinities)+len(c.Counts)+len(c.InvalidBlocks) > 0 {
		t.Errorf("%+v", c.Damage)
	}
}

// A small pool must not be lost to nodes that once had one address of it.
func TestAnEmptyBlockOfAnotherNodeIsTakenOverAfterAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := kvtest.NewMemory()
		putNode(t, store, "n1", "")
		putNode(t, store, "n2", "")
		putPool(t, store, "p", `"cidr":"10.0.0.0/30","blockSize":30`)
		put(t, store, root+"config", `{"strict_affinity":true,"auto_allocate_blocks":true}`)
		mustAssign(t, store, "n2", "b", 1)
		if err := ipam.Release(t.Context(), store, "vm.b"); err != nil {
			t.Fatal(err)
		}
		if _, err := assign(t, store, "n1", "a", 1); err == nil {
			t.Error("the block was taken at once")
		}
		time.Sleep(61 * time.Second) // by the clock of synctest
		mustAssign(t, store, "n1", "a", 1)
		if got := read(t, store, root+"host/n2/ipv4/block/10.0.0.0-30"); got != "" {
			t.Errorf("the former claim is still there: %s", got)
		}
		if c := runCheck(t, store); len(c.Affinities) > 0 {
			t.Errorf("%v", c.Affinities)
		}
	})
}

func TestReleasedAddressesReturnAfterTheCooldown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := kvtest.NewMemory()
		putNode(t, store, "n1", "")
		putPool(t, store, "p", `"cidr":"10.0.0.0/30","blockSize":30`)
		put(t, store, root+"config", `{"auto_allocate_blocks":true,"ipCooldownSeconds":60}`)
		mustAssign(t, store, "n1", "a", 4)
		if err := ipam.Release(t.Context(), store, "vm.a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		if _, err := assign(t, store, "n1", "b", 1); err == nil {
			t.Error("an address was assigned before it had cooled down")
		}
		time.Sleep(2 * time.Second)
		mustAssign(t, store, "n1", "b", 4)
	})
}

// Programs of Calico that die leave a pending claim, a claim without a block, or a claim on a block that another node has won.
func TestClaimsOfDeadProgramsAreCompletedOrDeleted(t *testing.T) {
	t.Parallel()
	store := kvtest.NewMemory()
	putNode(t, store, "n1", "")
	putNode(t, store, "n2", "")
	putPool(t, store, "p", `"cidr":"10.0.0.0/28","blockSize":30`)
	mustAssign(t, store, "n2", "b", 1)
	won := slices.Collect(blockNames(t, store))[0]
	var free []string
	for _, name := range []string{"10.0.0.0-30", "10.0.0.4-30", "10.0.0.8-30", "10.0.0.12-30"} {
		if name != won {
			free = append(free, name)
		}
	}
	put(t, store, root+"host/n1/ipv4/block/"+won, `{"state":"pending","deleted":false}`)
	put(t, store, root+"host/n1/ipv4/block/"+free[0], `{"state":"pending","deleted":false}`)
	put(t, store, root+"host/n1/ipv4/block/"+free[1], ``)
	mustAssign(t, store, "n1", "a", 8)
	for _, name := range free[:2] {
		if got := read(t, store, root+"host/n1/ipv4/block/"+name); got != `{"state":"confirmed","deleted":false}` {
			t.Errorf("claim on %s: %q", name, got)
		}
	}
	if c := runCheck(t, store); len(c.Affinities) > 0 || len(c.Blocks) != 3 {
		t.Errorf("%v, %d blocks", c.Affinities, len(c.Blocks))
	}
}

func blockNames(t *testing.T, store kv.KV) func(func(string) bool) {
	page, err := store.Range(t.Context(), kv.Prefix(root+"assignment/ipv4/block/"), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(string) bool) {
		for _, entry := range page.Entries {
			if !yield(strings.TrimPrefix(entry.Key, root+"assignment/ipv4/block/")) {
				return
			}
		}
	}
}

// A pool may be deleted and created again with another block size while blocks of the old size are in use.
func TestNewBlocksDoNotOverlapBlocksOfAnotherSize(t *testing.T) {
	t.Parallel()
	for _, sizes := range [][2]int{{30, 28}, {28, 30}} {
		store := kvtest.NewMemory()
		putNode(t, store, "n1", "")
		for i, size := range sizes {
			putPool(t, store, "p", fmt.Sprintf(`"cidr":"10.0.0.0/26","blockSize":%d`, size))
			mustAssign(t, store, "n1", fmt.Sprint(i), 20)
		}
		if c := runCheck(t, store); len(c.InvalidBlocks)+len(c.Twice) > 0 {
			t.Errorf("sizes %v: %+v", sizes, c.Damage)
		}
	}
}

func TestAddressesThatAnEndpointHasAreNotAssigned(t *testing.T) {
	t.Parallel()
	store := kvtest.NewMemory()
	putNode(t, store, "n1", "")
	putPool(t, store, "p", `"cidr":"10.0.0.0/29","blockSize":30`)
	request := ipam.Request{Node: "n1", Handle: "vm.a", V4: 3, InUse: func(_ context.Context, free []netip.Addr) (map[netip.Addr]bool, error) {
		return map[netip.Addr]bool{addr("10.0.0.0"): true, addr("10.0.0.1"): true, addr("10.0.0.4"): true, addr("10.0.0.5"): true, addr("10.0.0.6"): true}, nil
	}}
	got, err := ipam.Assign(t.Context(), store, request)
	if err != nil || fmt.Sprint(got) != "[10.0.0.2 10.0.0.3 10.0.0.7]" {
		t.Errorf("%v, %v", got, err)
	}
	if err := ipam.AssignAddress(t.Context(), store, request, addr("10.0.0.5")); err == nil || !strings.Contains(err.Error(), "has it already") {
		t.Errorf("a given one: %v", err)
	}
	broken := errors.New("no answer")
	request.InUse = func(context.Context, []netip.Addr) (map[netip.Addr]bool, error) { return nil, broken }
	request.Handle = "vm.b"
	if _, err := ipam.Assign(t.Context(), store, request); !errors.Is(err, broken) {
		t.Errorf("it is not known what is in use: %v", err)
	}
}

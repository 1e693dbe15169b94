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

func TestWhichPoolsARequestMayUse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, spec string
		named      bool
		namespace  string
		refused    string // part of the error; empty: an address of the pool is assigned
	}{
		{name: "plain", spec: ``},
		{name: "disabled", spec: `,"disabled":true`, refused: "IPPool p is disabled: enable it"},
		{name: "disabled and named", spec: `,"disabled":true`, named: true, refused: "IPPool p is disabled: enable it"},
		{name: "another node's", spec: `,"nodeSelector":"rack == '2'"`, refused: "IPPool p selects other nodes (nodeSelector rack == '2')"},
		{name: "another node's, and named", spec: `,"nodeSelector":"rack == '2'"`, named: true},
		{name: "this node's", spec: `,"nodeSelector":"rack == '1'"`},
		{name: "every node's", spec: `,"nodeSelector":"all()"`},
		{name: "invalid selector", spec: `,"nodeSelector":"rack =="`, refused: "IPPool p has an invalid nodeSelector"},
		{name: "another namespace's", spec: `,"namespaceSelector":"tier == 'db'"`, namespace: "shop", refused: "selects other namespaces"},
		{name: "this namespace's", spec: `,"namespaceSelector":"tier == 'web'"`, namespace: "shop"},
		{name: "a namespace without labels", spec: `,"namespaceSelector":"tier == 'web'"`, namespace: "dev", refused: "selects other namespaces"},
		{name: "manual", spec: `,"assignmentMode":"Manual"`, refused: "IPPool p has assignmentMode Manual: name the pool"},
		{name: "manual and named", spec: `,"assignmentMode":"Manual"`, named: true},
		{name: "for tunnels", spec: `,"allowedUses":["Tunnel"]`, refused: "IPPool p is not for workloads: add Workload to its allowedUses"},
		{name: "for tunnels, and named", spec: `,"allowedUses":["Tunnel"]`, named: true, refused: "IPPool p is not for workloads"},
		{name: "for workloads", spec: `,"allowedUses":["Workload"]`},
		{name: "too large a block", spec: `,"blockSize":20`, refused: "IPPool p has the block size 20, which does not fit 10.0.0.0/28"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			store := kvtest.NewMemory()
			putNode(t, store, "n1", `"rack":"1"`)
			put(t, store, resourceRoot+"profiles/kns.shop", `{"kind":"Profile","metadata":{"name":"kns.shop"},"spec":{"labelsToApply":{"pcns.tier":"web"}}}`)
			putPool(t, store, "p", `"cidr":"10.0.0.0/28"`+blockSize30(test.spec))
			request := ipam.Request{Node: "n1", Namespace: test.namespace, Handle: "vm.a", V4: 1}
			if test.named {
				request.Pools = []string{"p"}
			}
			addrs, err := ipam.Assign(t.Context(), store, request)
			switch {
			case test.refused == "" && (err != nil || len(addrs) != 1):
				t.Errorf("%v, %v", addrs, err)
			case test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)):
				t.Errorf("%v, %v, want the error %q", addrs, err, test.refused)
			}
		})
	}
}

func blockSize30(spec string) string {
	if strings.Contains(spec, "blockSize") {
		return spec
	}
	return `,"blockSize":30` + spec
}

func TestRequestsThatCannotBeMet(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		prepare func(*testing.T, kv.KV)
		request ipam.Request
		want    string
	}{
		{"no such node", nil, ipam.Request{Node: "n9", V4: 1}, "Node n9 does not exist"},
		{"no such pool", nil, ipam.Request{Node: "n1", V4: 1, Pools: []string{"q"}}, "IPPool q does not exist: create it, or name another one"},
		{"no pool of the family", nil, ipam.Request{Node: "n1", V6: 1}, "there is no IPPool with IPv6 addresses: create one"},
		{"more than there are", nil, ipam.Request{Node: "n1", V4: 9},
			"1 of 9 IPv4 addresses are missing: IPPool p has 8 addresses, 8 in use"},
		{"the last one", func(t *testing.T, store kv.KV) { mustAssign(t, store, "n1", "all", 8) }, ipam.Request{Node: "n1", V4: 1},
			"no IPv4 address is free: IPPool p has 8 addresses, 8 in use: release addresses (margayctl ipam check finds leaks), or create an IPPool"},
		{"reserved", func(t *testing.T, store kv.KV) {
			mustAssign(t, store, "n1", "some", 2)
			put(t, store, resourceRoot+"ipreservations/r", `{"spec":{"reservedCIDRs":["10.0.0.0/29"]}}`)
		}, ipam.Request{Node: "n1", V4: 1}, "IPPool p has 8 addresses, 2 in use, 6 reserved: "},
		{"unreadable reservation", func(t *testing.T, store kv.KV) {
			put(t, store, resourceRoot+"ipreservations/r", `{"spec":{"reservedCIDRs":["10.0.0.0/33"]}}`)
		}, ipam.Request{Node: "n1", V4: 1}, "IPReservation r is unreadable, so it is not known which addresses it reserves"},
		{"unreadable pool", func(t *testing.T, store kv.KV) { put(t, store, pools+"p", `{`) }, ipam.Request{Node: "n1", V4: 1}, "IPPool p is unreadable: correct it"},
		{"unreadable node", func(t *testing.T, store kv.KV) { put(t, store, nodes+"n1", `{`) }, ipam.Request{Node: "n1", V4: 1}, "Node n1 is unreadable"},
		{"unreadable block", func(t *testing.T, store kv.KV) {
			mustAssign(t, store, "n1", "some", 4)
			put(t, store, root+"assignment/ipv4/block/10.0.0.0-30", `{`)
			put(t, store, root+"assignment/ipv4/block/10.0.0.4-30", `{`)
		}, ipam.Request{Node: "n1", V4: 1}, "or their block is unreadable"},
		{"contradiction", func(t *testing.T, store kv.KV) { put(t, store, root+"config", `{}`) }, ipam.Request{Node: "n1", V4: 1},
			"the IPAM configuration contradicts itself"},
		{"strict", func(t *testing.T, store kv.KV) {
			put(t, store, root+"config", `{"strict_affinity":true,"auto_allocate_blocks":true}`)
			mustAssign(t, store, "n2", "some", 5)
		}, ipam.Request{Node: "n1", V4: 1}, "3 free that node n1 may not use now (strict affinity forbids"},
		{"most blocks", func(t *testing.T, store kv.KV) {
			put(t, store, root+"config", `{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":1}`)
			mustAssign(t, store, "n1", "some", 4)
		}, ipam.Request{Node: "n1", V4: 1}, "4 free that node n1 may not use now (it has 1 blocks, the most that a node may claim"},
		{"no claims", func(t *testing.T, store kv.KV) { put(t, store, root+"config", `{"strict_affinity":true}`) }, ipam.Request{Node: "n1", V4: 1},
			"8 free that node n1 may not use now (the IPAM configuration forbids nodes to claim blocks"},
		{"cooling", func(t *testing.T, store kv.KV) {
			put(t, store, root+"config", `{"auto_allocate_blocks":true,"ipCooldownSeconds":900}`)
			mustAssign(t, store, "n1", "all", 8)
			if err := ipam.Release(t.Context(), store, "vm.all"); err != nil {
				t.Fatal(err)
			}
		}, ipam.Request{Node: "n1", V4: 1}, "8 released and cooling down"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			store := kvtest.NewMemory()
			putNode(t, store, "n1", "")
			putNode(t, store, "n2", "")
			putPool(t, store, "p", `"cidr":"10.0.0.0/29","blockSize":30`)
			if test.prepare != nil {
				test.prepare(t, store)
			}
			test.request.Handle = "vm.a"
			if addrs, err := ipam.Assign(t.Context(), store, test.request); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, %v, want an error with %q", addrs, err, test.want)
			}
			if read(t, store, root+"handle/vm.a") != "" {
				t.Error("the handle holds addresses after the failure")
			}
		})
	}
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

// A large reservation in a large pool has more blocks than can be visited.
func TestALargeReservationIsLeaptOver(t *testing.T) {
	t.Parallel()
	store := kvtest.NewMemory()
	putNode(t, store, "n1", "")
	putPool(t, store, "p", `"cidr":"fd00::/40"`)
	put(t, store, resourceRoot+"ipreservations/r", `{"spec":{"reservedCIDRs":["fd00::/41","fd00:80::/42","fd00:c0::/122","fd00:ff::1"]}}`)
	reserved := []netip.Prefix{netip.MustParsePrefix("fd00::/41"), netip.MustParsePrefix("fd00:80::/42")}
	for i := range 20 {
		addrs, err := ipam.Assign(t.Context(), store, ipam.Request{Node: "n1", Handle: fmt.Sprint("vm.", i), V6: 40})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			if slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(a) }) || a == addr("fd00:ff::1") {
				t.Errorf("%v is reserved", a)
			}
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

func TestAGivenAddressIsAssigned(t *testing.T) {
	t.Parallel()
	store := kvtest.NewMemory()
	putNode(t, store, "n1", "")
	putNode(t, store, "n2", "")
	putPool(t, store, "p", `"cidr":"10.0.0.0/28","blockSize":30,"nodeSelector":"rack == '7'"`)
	putPool(t, store, "off", `"cidr":"10.1.0.0/28","blockSize":30,"disabled":true`)
	put(t, store, resourceRoot+"ipreservations/r", `{"spec":{"reservedCIDRs":["10.0.0.4"]}}`)
	give := func(node, text, handle string) error {
		return ipam.AssignAddress(t.Context(), store, ipam.Request{Node: node, Handle: handle}, addr(text))
	}
	for _, test := range []struct{ node, text, handle, want string }{
		{"n1", "10.0.0.4", "vm.a", ""},
		{"n1", "10.0.0.4", "vm.a", ""},
		{"n1", "10.0.0.4", "vm.b", "vm.a holds it: release it there, or take another address"},
		{"n2", "10.0.0.5", "vm.c", ""},
		{"n2", "10.9.0.5", "vm.c", "no IPPool holds the address"},
		{"n2", "10.1.0.5", "vm.c", "IPPool off is disabled: enable it, or take an address of another pool"},
		{"n3", "10.0.0.6", "vm.c", "Node n3 does not exist"},
	} {
		err := give(test.node, test.text, test.handle)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s to %s on %s: %v, want %q", test.text, test.handle, test.node, err, test.want)
		}
	}
	put(t, store, root+"config", `{"strict_affinity":true,"ipCooldownSeconds":300}`)
	if err := ipam.Release(t.Context(), store, "vm.a"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ node, text, want string }{
		{"n1", "10.0.0.4", "cools down for another"},
		{"n2", "10.0.0.7", "its block 10.0.0.4/30 belongs to host:n1 and strict affinity is set"},
		{"n2", "10.0.0.9", "the block 10.0.0.8/30 does not exist, and node n2 may not claim it"},
	} {
		if err := give(test.node, test.text, "vm.d"); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s on %s: %v, want %q", test.text, test.node, err, test.want)
		}
	}
}

func TestOneAddressOfAHandleIsReleased(t *testing.T) {
	t.Parallel()
	store := kvtest.NewMemory()
	putNode(t, store, "n1", "")
	putPool(t, store, "p", `"cidr":"10.0.0.0/28","blockSize":30`)
	addrs := mustAssign(t, store, "n1", "a", 2)
	if err := ipam.ReleaseHeld(t.Context(), store, addrs[0], "vm.other"); err != nil || len(runCheck(t, store).Allocations) != 2 {
		t.Errorf("another handle's address was released, or %v", err)
	}
	if err := ipam.ReleaseHeld(t.Context(), store, addrs[0], "vm.a"); err != nil {
		t.Fatal(err)
	}
	if c := runCheck(t, store); len(c.Allocations) != 1 || len(c.Counts) > 0 {
		t.Errorf("%v, %v", c.Allocations, c.Counts)
	}
}

// What an operator changes between the reading and the commit counts.
func TestAChangeDuringAnAssignmentCounts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*testing.T, kv.KV)
		want   string // part of the error; empty: an address that is not reserved
	}{
		{"the pool is disabled", func(t *testing.T, store kv.KV) {
			putPool(t, store, "p", `"cidr":"10.0.0.0/30","blockSize":30,"disabled":true`)
		}, "IPPool p is disabled"},
		{"the pool is deleted", func(t *testing.T, store kv.KV) { remove(t, store, pools+"p") }, "there is no IPPool with IPv4 addresses"},
		{"addresses are reserved", func(t *testing.T, store kv.KV) {
			put(t, store, resourceRoot+"ipreservations/r", `{"spec":{"reservedCIDRs":["10.0.0.0/31","10.0.0.2"]}}`)
		}, ""},
		{"the node is deleted", func(t *testing.T, store kv.KV) { remove(t, store, nodes+"n1") }, "the Node n1 does not exist"},
		{"another node takes them", func(t *testing.T, store kv.KV) { mustAssign(t, store, "n2", "b", 3) }, ""},
		{"all addresses are taken", func(t *testing.T, store kv.KV) { mustAssign(t, store, "n2", "b", 4) }, "no IPv4 address is free"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			store := kvtest.NewMemory()
			putNode(t, store, "n1", "")
			putNode(t, store, "n2", "")
			putPool(t, store, "p", `"cidr":"10.0.0.0/30","blockSize":30`)
			changed := false
			during := &meddling{KV: store, meddle: func() {
				if !changed {
					changed = true
					test.change(t, store)
				}
			}}
			addrs, err := assign(t, during, "n1", "a", 1)
			switch {
			case test.want == "" && (err != nil || len(addrs) != 1 || addrs[0] != addr("10.0.0.3")):
				t.Errorf("%v, %v", addrs, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, %v, want the error %q", addrs, err, test.want)
			}
		})
	}
}

func remove(t *testing.T, store kv.KV, key string) {
	t.Helper()
	if _, err := store.Commit(t.Context(), nil, []kv.Write{{Key: key, Delete: true}}); err != nil {
		t.Fatal(err)
	}
}

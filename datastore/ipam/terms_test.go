package ipam_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

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
			"1 of 9 IPv4 addresses are missing: IPPool p has 8 addresses, 0 in use, 8 free: "},
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

// A change of an operator between the reading and the commit counts.
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

package ipam_test

import (
	"strings"
	"testing"

	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

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

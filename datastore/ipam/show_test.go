package ipam_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

const reservations = "/calico/resources/v3/projectcalico.org/ipreservations/"

func TestUsagesCountEveryAddressOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		for text, node := range map[string]string{"10.0.0.5": "n1", "10.0.0.6": "n2"} {
			if err := ipam.Reserve(ctx, store, "n1", addr(text), "vm."+text, map[string]string{"node": node}); err != nil {
				t.Fatal(err)
			}
		}
		// The larger reservation holds the smaller; one of the addresses is in use.
		put(t, store, reservations+"a", `{"metadata":{"name":"a"},"spec":{"reservedCIDRs":["10.0.0.6/31","10.0.0.7/32","10.0.1.0/24","192.168.0.0/16"]}}`)
		usages, err := ipam.Usages(ctx, store)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, p := range usages {
			got += fmt.Sprintf("%v %.0f %.0f %.0f %.4g\n", p.CIDR, p.Total, p.InUse, p.Reserved, p.Free())
			for _, b := range p.Blocks {
				got += fmt.Sprintf("- %v %.0f %.0f %.0f %s\n", b.CIDR, b.Total, b.InUse, b.Reserved, b.Owner)
			}
		}
		want := "10.0.0.0/16 65536 2 257 6.528e+04\n- 10.0.0.4/30 4 2 1 host:n1\nfd00::/48 1208925819614629174706176 0 0 1.209e+24\n"
		if got != want {
			t.Errorf("usages\n%swant\n%s", got, want)
		}
	})
}

func TestLookupTellsWhoHoldsAnAddress(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		if err := ipam.Reserve(ctx, store, "n1", addr("10.0.0.5"), "vm.a", map[string]string{"node": "n2"}); err != nil {
			t.Fatal(err)
		}
		a, ok, err := ipam.Lookup(ctx, store, addr("10.0.0.5"))
		if err != nil || !ok || a.Handle != "vm.a" || a.Owner != "host:n1" || !a.Borrowed() {
			t.Errorf("10.0.0.5 is held by %+v, %v, %v", a, ok, err)
		}
		for _, free := range []string{"10.0.0.6", "10.9.9.9", "192.168.1.1", "fd00::1"} {
			if a, ok, err := ipam.Lookup(ctx, store, addr(free)); ok || err != nil {
				t.Errorf("%s is held by %+v, %v", free, a, err)
			}
		}
		n := 0
		if err := ipam.Assignments(ctx, store, func(a ipam.Assignment) error { n++; return nil }); err != nil || n != 1 {
			t.Errorf("%d assignments, want one: %v", n, err)
		}
	})
}

func TestConfigureKeepsUnknownFields(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		if c, err := ipam.ReadConfig(ctx, store); err != nil || c != (ipam.Config{AutoAllocateBlocks: true, KubeVirtAddressPersistence: "Enabled"}) {
			t.Errorf("without a configuration: %+v, %v", c, err)
		}
		if err := ipam.Configure(ctx, store, func(c *ipam.Config) { c.StrictAffinity = true }); err != nil {
			t.Fatal(err)
		}
		// As the real calicoctl left it in internal/fixture/calico-etcd.json.
		want := `{"auto_allocate_blocks":true,"kubeVirtVMAddressPersistence":"Enabled","strict_affinity":true}`
		if got := read(t, store, root+"config"); got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
		put(t, store, root+"config", `{"strict_affinity":true,"auto_allocate_blocks":true,"newer":{"a":1}}`)
		if err := ipam.Configure(ctx, store, func(c *ipam.Config) { c.MaxBlocksPerHost = 7 }); err != nil {
			t.Fatal(err)
		}
		if got, want := read(t, store, root+"config"), `{"auto_allocate_blocks":true,"maxBlocksPerHost":7,"newer":{"a":1},"strict_affinity":true}`; got != want {
			t.Errorf("stored %s, want %s", got, want)
		}
	})
}

func TestAnAddressOfADeletedPoolIsFoundAndReleased(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, store kv.KV) {
		if err := ipam.Reserve(ctx, store, "n1", addr("10.0.0.5"), "vm.a", nil); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Commit(ctx, nil, []kv.Write{{Key: pools + "v4", Delete: true}}); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := ipam.Lookup(ctx, store, addr("10.0.0.5")); !ok || err != nil {
			t.Errorf("not found: %v", err)
		}
		if err := ipam.ReleaseAddress(ctx, store, addr("10.0.0.5")); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := ipam.Lookup(ctx, store, addr("10.0.0.5")); ok || err != nil {
			t.Errorf("still held: %v", err)
		}
		if got := read(t, store, root+"handle/vm.a"); got != "" {
			t.Errorf("the handle still holds %s", got)
		}
	})
}

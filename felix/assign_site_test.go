package main

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/internal/lab"
)

// asker returns a manifest of a VM that asks for an address of the pool vms.
func asker(name string) string {
	return fmt.Sprintf(`
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: host1-libvirt-%s-eth0, namespace: shop, annotations: {margay.io/ipam: '{"pools":["vms"]}'}}
spec: {node: host1, orchestrator: libvirt, workload: %s, endpoint: eth0, interfaceName: cali-%s, profiles: [open]}
---
`, name, name, name)
}

// addressOf waits until an endpoint has one address, and returns it.
func (l *site) addressOf(name string) (addr netip.Addr) {
	l.Helper()
	lab.Await(l, func() error {
		o, err := l.store.Get(context.Background(), api.Key{Kind: api.KindWorkloadEndpoint, Namespace: "shop", Name: "host1-libvirt-" + name + "-eth0"})
		if err != nil {
			return err
		}
		networks := o.(*api.WorkloadEndpoint).Spec.IPNetworks
		if len(networks) != 1 {
			return fmt.Errorf("%s has the addresses %v", name, networks)
		}
		addr = netip.MustParsePrefix(networks[0]).Addr()
		return nil
	})
	return addr
}

func (l *site) awaitHeld(addr netip.Addr, want bool) {
	l.Helper()
	lab.Await(l, func() error {
		_, held, err := ipam.Lookup(context.Background(), l.store.KV(), addr)
		if err == nil && held != want {
			err = fmt.Errorf("%v is held: %t", addr, held)
		}
		return err
	})
}

// A VM without an address is closed. It says why until there is a pool; then felix gives it an address, and the VM is reached. The
// address of a VM that is deleted while felix does not run is released when felix runs again.
func TestFelixGivesOutAddresses(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.apply(openProfile + asker("a"))
	f := l.startSynced()
	f.awaitProblem("WorkloadEndpoint(shop/host1-libvirt-a-eth0)", "cannot get its addresses", "IPPool vms does not exist: create it")
	f.awaitProblem("WorkloadEndpoint(shop/host1-libvirt-a-eth0)", "has no ipNetworks yet, so it is closed")

	lock(t, l.store, true)
	f.awaitProblem("WorkloadEndpoint(shop/host1-libvirt-a-eth0)", "cannot get its addresses", "the datastore is locked")
	l.apply("apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: vms}\nspec: {cidr: 10.65.0.0/26}\n---\n" + asker("b"))
	lock(t, l.store, false)
	a, b := l.addressOf("a"), l.addressOf("b")
	if a == b {
		t.Fatalf("both have %v", a)
	}
	l.vm("a", a.String()).Echo(port)
	f.awaitEnforced("cali-a")
	l.awaitReach(a.String(), true)

	f.kill()
	l.delete("WorkloadEndpoint", "shop", "host1-libvirt-b-eth0")
	l.awaitHeld(b, true)
	l.startSynced()
	l.awaitHeld(b, false)
	l.awaitHeld(a, true)
	if now := l.addressOf("a"); now != a {
		t.Errorf("a had %v, and has %v after a restart", a, now)
	}
}

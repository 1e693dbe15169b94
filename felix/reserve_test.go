package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

// ledger is a bookkeeper with a datastore in memory that has one pool.
type ledger struct {
	*testing.T
	bookkeeper
	memory *datastore.Memory
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	memory := datastore.NewMemory()
	store := datastore.New(memory).WhileUnlocked()
	t.Cleanup(func() { store.Close() })
	_, err := store.Create(context.Background(), &api.IPPool{
		TypeMeta: api.TypeMeta{Kind: "IPPool", APIVersion: api.APIVersion}, Metadata: api.Metadata{Name: "vms"},
		Spec: api.IPPoolSpec{CIDR: "10.65.0.0/24"},
	})
	must(t, err)
	return &ledger{T: t, memory: memory, bookkeeper: bookkeeper{store: store, node: "n1", held: map[reservation]bool{}}}
}

func (l *ledger) recordedNow() map[reservation]bool {
	l.Helper()
	page, err := l.store.KV().Range(context.Background(), kv.Prefix(ipam.BlockRoot), 0, 1000)
	must(l, err)
	all := map[reservation]bool{}
	for _, entry := range page.Entries {
		var block api.IPAMBlock
		must(l, json.Unmarshal(entry.Value, &block))
		maps.Copy(all, recordedReservations(&block, "n1"))
	}
	return all
}

// settle hands the books over, as the loop does when something has changed, until they are right.
func (l *ledger) settle(wanted ...reservation) {
	l.Helper()
	want := map[reservation]bool{}
	for _, r := range wanted {
		want[r] = true
	}
	for range 3 {
		l.update(books{wanted: want, recorded: l.recordedNow()})
		must(l, l.pass(context.Background()))
	}
	if got := l.recordedNow(); !maps.Equal(got, want) {
		l.Errorf("recorded are %v, not %v", got, want)
	}
}

func held(address, endpoint string) reservation {
	return reservation{netip.MustParseAddr(address), api.Key{Kind: "WorkloadEndpoint", Namespace: "shop", Name: endpoint}}
}

func TestReservationsFollowTheEndpoints(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	a, b := held("10.65.0.2", "a"), held("10.65.0.3", "b")
	l.settle(a, b)
	l.settle(b)
	l.settle(b, held("10.65.0.2", "c")) // another takes the address over
	l.settle()
}

func TestAReservationThatSomebodyReleasedIsMadeAgain(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	a := held("10.65.0.2", "a")
	l.settle(a)
	must(t, ipam.Release(context.Background(), l.store.KV(), a.handle()))
	l.settle(a)
}

// An endpoint that is not this node's any more, or that cannot be read, is still there: its address is not free.
func TestAnAddressIsReleasedOnlyWhenItsEndpointIsGone(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	a := held("10.65.0.2", "n1-libvirt-a-eth0")
	ctx := context.Background()
	endpoint := &api.WorkloadEndpoint{
		TypeMeta: api.TypeMeta{Kind: "WorkloadEndpoint", APIVersion: api.APIVersion},
		Metadata: api.Metadata{Name: a.endpoint.Name, Namespace: "shop"},
		Spec: api.WorkloadEndpointSpec{
			Node: "n1", Orchestrator: "libvirt", Workload: "a", Endpoint: "eth0", InterfaceName: "cali-a", IPNetworks: []string{"10.65.0.2/32"},
		},
	}
	_, err := l.store.Create(ctx, endpoint)
	must(t, err)
	l.settle(a)
	l.update(books{wanted: map[reservation]bool{}, recorded: l.recordedNow()})
	must(t, l.pass(ctx))
	if !l.recordedNow()[a] {
		t.Error("the address is free while its endpoint is there")
	}
	_, err = l.store.Delete(ctx, a.endpoint, "")
	must(t, err)
	l.settle()
}

// Whoever locked the datastore counts, moves or splits what is in it: retries wait until it is unlocked.
func TestNothingIsReservedOrReleasedWhileTheDatastoreIsLocked(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	operator := datastore.New(l.memory)
	must(t, operator.EnsureInitialized(context.Background()))
	a, b := held("10.65.0.2", "a"), held("10.65.0.3", "b")
	l.settle(a)
	l.update(books{wanted: map[reservation]bool{b: true}, recorded: l.recordedNow()})
	lock(t, operator, true)
	before := everything(t, l.memory)
	if err := l.pass(context.Background()); !errors.Is(err, datastore.ErrLocked) {
		t.Errorf("while it is locked: %v", err)
	}
	if diff := cmp.Diff(before, everything(t, l.memory)); diff != "" {
		t.Errorf("written while it is locked: %s", diff)
	}
	lock(t, operator, false)
	l.settle(b)
}

func TestOneFailureStopsNoOtherReservation(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	good, elsewhere := held("10.65.0.2", "a"), held("10.99.0.2", "b") // in no pool
	l.update(books{wanted: map[reservation]bool{good: true, elsewhere: true}})
	if err := l.pass(context.Background()); err == nil {
		t.Error("an address outside of every pool can be reserved")
	}
	if got := l.recordedNow(); !got[good] || len(got) != 1 {
		t.Errorf("recorded are %v", got)
	}
	l.memory.Offline(errors.New("gone"))
	if err := l.pass(context.Background()); err == nil {
		t.Error("no error from a datastore that does not answer")
	}
}

func TestOnlyAddressesInPoolsAreWanted(t *testing.T) {
	t.Parallel()
	state := &calc.State{
		Pools: map[netip.Prefix]calc.Pool{netip.MustParsePrefix("10.65.0.0/24"): {}},
		Endpoints: map[calc.EndpointID]calc.Endpoint{
			{Kind: "WorkloadEndpoint", Namespace: "shop", Name: "a"}: {Addresses: []netip.Addr{netip.MustParseAddr("10.65.0.2"), netip.MustParseAddr("10.66.0.2")}},
			{Kind: "HostEndpoint", Name: "h"}:                        {Addresses: []netip.Addr{netip.MustParseAddr("10.65.0.1")}},
		},
	}
	if got := wantedReservations(state); !maps.Equal(got, map[reservation]bool{held("10.65.0.2", "a"): true}) {
		t.Error(got)
	}
}

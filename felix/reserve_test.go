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
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// ledger is a bookkeeper with an in-memory datastore that has one pool.
type ledger struct {
	*testing.T
	*bookkeeper
	memory *kvtest.Memory
	asks   asking
	others unplugged
}

// havingNone says that no endpoint has an address that IPAM does not know.
func havingNone(context.Context, map[netip.Addr]bool) (map[netip.Addr]bool, error) { return nil, nil }

func newLedger(t *testing.T) *ledger {
	t.Helper()
	memory := kvtest.NewMemory()
	store := datastore.New(memory).WhileUnlocked()
	t.Cleanup(func() { store.Close() })
	_, err := store.Create(context.Background(), &api.IPPool{
		TypeMeta: api.TypeMeta{Kind: "IPPool", APIVersion: api.APIVersion}, Metadata: api.Metadata{Name: "vms"},
		Spec: api.IPPoolSpec{CIDR: "10.65.0.0/24"},
	})
	must(t, err)
	return &ledger{T: t, memory: memory, asks: asking{}, others: unplugged{}, bookkeeper: newBookkeeper(quiet(), store, "n1", havingNone)}
}

// read returns the blocks from the view of a node's agent.
func (l *ledger) read() *blocks {
	l.Helper()
	return readBlocks(l.T, l.memory, "n1")
}

func readBlocks(t testing.TB, store kv.KV, node string) *blocks {
	t.Helper()
	page, err := store.Range(context.Background(), kv.Prefix(ipam.BlockRoot), 0, 1000)
	must(t, err)
	all := newBlocks(node)
	for _, entry := range page.Entries {
		block := &api.IPAMBlock{}
		must(t, json.Unmarshal(entry.Value, block))
		all.update(api.Update{Key: api.Key{Kind: "IPAMBlock", Name: entry.Key}, Object: block})
	}
	return all
}

func (l *ledger) recordedNow() map[reservation]bool {
	l.Helper()
	all := map[reservation]bool{}
	for _, block := range l.read().list {
		for _, r := range block.recorded {
			all[r] = true
		}
	}
	return all
}

// turn gives the bookkeeper its input, as the loop does after a change.
func (l *ledger) turn(wanted ...reservation) error {
	l.Helper()
	state := &calc.State{
		Pools:     map[netip.Prefix]calc.Pool{netip.MustParsePrefix("10.65.0.0/24"): {}, netip.MustParsePrefix("10.99.0.0/24"): {}},
		Endpoints: map[calc.EndpointID]calc.Endpoint{},
	}
	for _, r := range wanted {
		id := calc.EndpointID{Kind: r.endpoint.Kind, Namespace: r.endpoint.Namespace, Name: r.endpoint.Name}
		ep := state.Endpoints[id]
		ep.Addresses = append(ep.Addresses, r.addr)
		state.Endpoints[id] = ep
	}
	l.books = l.read().books(state, l.asks, l.others, func(addrs map[netip.Addr]bool) map[netip.Addr]bool { return addrs })
	return l.pass(context.Background())
}

// settle takes turns until the blocks are right.
func (l *ledger) settle(wanted ...reservation) {
	l.Helper()
	want := map[reservation]bool{}
	for _, r := range wanted {
		want[r] = true
	}
	for range 3 {
		must(l, l.turn(wanted...))
	}
	if got := l.recordedNow(); !maps.Equal(got, want) {
		l.Errorf("recorded are %v, not %v", got, want)
	}
}

func held(address, endpoint string) reservation {
	return reservation{netip.MustParseAddr(address), api.Key{Kind: "WorkloadEndpoint", Namespace: "shop", Name: endpoint}}
}

func TestReservationsFollowEndpoints(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	a, b := held("10.65.0.2", "a"), held("10.65.0.3", "b")
	l.settle(a, b)
	l.settle(b)
	l.settle(b, held("10.65.0.2", "c")) // another endpoint takes the address over
	l.settle()
}

// Our clients refuse an endpoint without interfaceName, others may write one. It governs nothing, but its address is not free.
func TestAddressesOfEndpointsWithoutAnInterfaceAreReserved(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	ep := endpointOf("n1", "a")
	a := reservation{netip.MustParseAddr("10.65.0.2"), api.KeyOf(ep)}
	for _, c := range []struct {
		why                  string
		node, interfaceName  string
		networks             []string
		calculated, recorded bool // the calculation has the endpoint; IPAM has its address
	}{
		{why: "new", node: "n1", networks: []string{"10.65.0.2/32"}, recorded: true},
		{why: "it gets an interface", node: "n1", interfaceName: "cali-a", networks: []string{"10.65.0.2/32"}, calculated: true, recorded: true},
		{why: "it loses the interface", node: "n1", networks: []string{"10.65.0.2", "10.66.0.2", "invalid"}, recorded: true},
		{why: "on another node", node: "n2", networks: []string{"10.65.0.2/32"}},
		{why: "back", node: "n1", networks: []string{"10.65.0.2/32"}, recorded: true},
		{why: "without addresses", node: "n1"},
	} {
		ep.Spec.Node, ep.Spec.InterfaceName, ep.Spec.IPNetworks = c.node, c.interfaceName, c.networks
		u := api.Update{Key: api.KeyOf(ep), Object: ep}
		if c.interfaceName == "" {
			u.Invalid = "it has no interfaceName"
		}
		l.others.update("n1", u)
		var calculated []reservation
		if c.calculated {
			calculated = append(calculated, a)
		}
		for range 3 {
			must(t, l.turn(calculated...))
		}
		if got := l.recordedNow(); got[a] != c.recorded || len(got) > 1 {
			t.Errorf("%s: recorded are %v", c.why, got)
		}
	}
}

func TestAReservationThatOthersReleasedIsRestored(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	a := held("10.65.0.2", "a")
	l.settle(a)
	must(t, ipam.Release(context.Background(), l.store.KV(), a.handle()))
	l.settle(a)
}

// An endpoint that has moved to another node, or that cannot be read, still exists. Its address is not free.
func TestAnAddressIsReleasedOnlyAfterItsEndpointIsDeleted(t *testing.T) {
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
	must(t, l.turn())
	if !l.recordedNow()[a] {
		t.Error("the address is free while its endpoint is there")
	}
	_, err = l.store.Delete(ctx, a.endpoint, "")
	must(t, err)
	l.settle()
}

// A locked datastore may be under migration or repair. Retries wait until it is unlocked.
func TestNothingIsReservedOrReleasedWhileTheDatastoreIsLocked(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	operator := datastore.New(l.memory)
	must(t, operator.EnsureInitialized(context.Background()))
	a, b := held("10.65.0.2", "a"), held("10.65.0.3", "b")
	l.settle(a)
	lock(t, operator, true)
	before := everything(t, l.memory)
	if err := l.turn(b); !errors.Is(err, datastore.ErrLocked) {
		t.Errorf("error while the datastore is locked: %v", err)
	}
	if diff := cmp.Diff(before, everything(t, l.memory)); diff != "" {
		t.Errorf("written while the datastore is locked: %s", diff)
	}
	lock(t, operator, false)
	l.settle(b)
}

func TestAFailedReservationDoesNotStopOthers(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	good, elsewhere := held("10.65.0.2", "a"), held("10.99.0.2", "b") // in no pool
	if err := l.turn(good, elsewhere); err == nil {
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

func TestOnlyWorkloadAddressesInPoolsAreReserved(t *testing.T) {
	t.Parallel()
	state := &calc.State{
		Pools: map[netip.Prefix]calc.Pool{netip.MustParsePrefix("10.65.0.0/24"): {}},
		Endpoints: map[calc.EndpointID]calc.Endpoint{
			{Kind: "WorkloadEndpoint", Namespace: "shop", Name: "a"}: {Addresses: []netip.Addr{netip.MustParseAddr("10.65.0.2"), netip.MustParseAddr("10.66.0.2")}},
			{Kind: "HostEndpoint", Name: "h"}:                        {Addresses: []netip.Addr{netip.MustParseAddr("10.65.0.1")}},
		},
	}
	if got := wantedReservations(state, nil); !maps.Equal(got, map[reservation]bool{held("10.65.0.2", "a"): true}) {
		t.Error(got)
	}
}

// A pool is deleted and made again while its addresses are in use. Its blocks are announced as a whole again only after a
// node owns them.
func TestABlockThatLostItsOwnerIsClaimedAgain(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	a := held("10.65.0.2", "a")
	l.settle(a)
	pool := netip.MustParsePrefix("10.65.0.0/24")
	must(t, ipam.ReleasePool(t.Context(), l.store.KV(), pool))
	block := func() block { return l.read().list[netip.MustParsePrefix("10.65.0.0/26")] }
	if block().owned {
		t.Fatal("the pool's blocks keep their owner")
	}
	l.settle(a)
	if !block().owned || !l.recordedNow()[a] {
		t.Errorf("the block is %+v", block())
	}

	must(t, ipam.ReleasePool(t.Context(), l.store.KV(), pool))
	must(t, ipam.Release(t.Context(), l.store.KV(), a.handle()))
	if blocks := l.read().list; len(blocks) != 0 {
		t.Errorf("a block without owner and addresses is left: %v", blocks)
	}
}

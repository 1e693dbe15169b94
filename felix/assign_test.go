package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// newAskingLedger is a ledger with a Node and an endpoint that asks for addresses.
func newAskingLedger(t *testing.T, request string) (*ledger, api.Key) {
	t.Helper()
	l := newLedger(t)
	operator := datastore.New(l.memory)
	must(t, operator.EnsureInitialized(t.Context()))
	_, err := operator.Create(t.Context(), &api.Node{TypeMeta: api.TypeMeta{Kind: "Node", APIVersion: api.APIVersion}, Metadata: api.Metadata{Name: "n1"}})
	must(t, err)
	return l, l.createAsking("a", request)
}

func (l *ledger) createAsking(workload, request string) api.Key {
	l.Helper()
	ep := endpointOf("n1", workload)
	ep.Annotations = map[string]string{api.AddressAnnotation: request}
	_, err := l.store.Create(l.Context(), ep)
	must(l, err)
	key := api.KeyOf(ep)
	l.asks.update("n1", api.Update{Key: key, Object: ep})
	return key
}

// follow takes turns as an agent whose watch shows each change, until nothing changes. It ends at a failure of the bookkeeper, and
// returns it.
func (l *ledger) follow() error {
	l.Helper()
	healthy := datastore.New(l.memory)
	for range 4 {
		var wanted []reservation
		l.asks = asking{}
		objects, _, err := healthy.List(context.Background(), "WorkloadEndpoint", "")
		must(l, err)
		for _, o := range objects {
			ep := o.(*api.WorkloadEndpoint)
			l.asks.update("n1", api.Update{Key: api.KeyOf(ep), Object: ep})
			for _, text := range ep.Spec.IPNetworks {
				wanted = append(wanted, reservation{netip.MustParsePrefix(text).Addr(), api.KeyOf(ep)})
			}
		}
		if err := l.turn(slices.DeleteFunc(wanted, func(r reservation) bool { return !l.isLocal(r.endpoint) })...); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) isLocal(endpoint api.Key) bool { return strings.HasPrefix(endpoint.Name, l.node+"-") }

func (l *ledger) networksOf(key api.Key) []string {
	l.Helper()
	o, err := l.store.Get(context.Background(), key)
	must(l, err)
	return o.(*api.WorkloadEndpoint).Spec.IPNetworks
}

func (l *ledger) check() *ipam.Check {
	l.Helper()
	c, err := ipam.RunCheck(context.Background(), l.memory, time.Now())
	must(l, err)
	return c
}

// clean fails the test if the records of IPAM and the endpoints differ.
func (l *ledger) clean() {
	l.Helper()
	c := l.check()
	if len(c.Leaks())+len(c.NotAllocated)+len(c.LeakedHandles)+len(c.MissingHandles) > 0 {
		l.Errorf("leaked %v, not allocated %v, handles %v and %v", c.Leaks(), c.NotAllocated, c.LeakedHandles, c.MissingHandles)
	}
	if diff := cmp.Diff(ipam.Damage{}, c.Damage); diff != "" {
		l.Error("damaged: ", diff)
	}
}

func TestAnEndpointThatAsksGetsAddresses(t *testing.T) {
	t.Parallel()
	l, a := newAskingLedger(t, `{"pools":["vms"],"count":2}`)
	must(t, l.follow())
	first := l.networksOf(a)
	if len(first) != 2 {
		t.Fatalf("it has got %v", first)
	}
	b := l.createAsking("b", `{}`)
	must(t, l.follow())
	if got := l.networksOf(b); len(got) != 1 || slices.Contains(first, got[0]) || !slices.Equal(l.networksOf(a), first) {
		t.Errorf("b has got %v, and a has %v", got, first)
	}
	l.clean()

	_, err := l.store.Delete(t.Context(), a, "")
	must(t, err)
	must(t, l.follow())
	l.clean()
	if c := l.check(); len(c.Allocations) != 1 {
		t.Errorf("the addresses of a deleted endpoint are still assigned: %v", c.Allocations)
	}
}

// The operator removes one of two addresses: it is released, and the other one stays. With no address left, the endpoint asks again.
// IPAM counts what a handle holds: with one handle, two endpoints would get the same addresses.
func TestNoTwoEndpointsHaveOneHandle(t *testing.T) {
	t.Parallel()
	handles := map[string]api.Key{}
	for _, key := range []api.Key{
		{Namespace: "shop", Name: "host1.example.org-libvirt-web-eth0"},
		{Namespace: "shop.host1", Name: "example.org-libvirt-web-eth0"},
		{Namespace: "shop.host1.example", Name: "org-libvirt-web-eth0"},
		{Namespace: "shop..host1", Name: "example.org-libvirt-web-eth0"},
	} {
		for _, handle := range []string{assignedHandle(key), reservation{netip.MustParseAddr("10.65.0.2"), key}.handle()} {
			if other, taken := handles[handle]; taken {
				t.Errorf("%v and %v have the handle %s", other, key, handle)
			}
			handles[handle] = key
		}
	}
}

func TestAddressesThatTheOperatorRemovesAreReleased(t *testing.T) {
	t.Parallel()
	l, a := newAskingLedger(t, `{"count":2}`)
	must(t, l.follow())
	change := func(networks []string) {
		o, err := l.store.Get(t.Context(), a)
		must(t, err)
		ep := o.(*api.WorkloadEndpoint)
		ep.Spec.IPNetworks = networks
		_, err = l.store.Update(t.Context(), ep)
		must(t, err)
		must(t, l.follow())
		l.clean()
	}
	change(l.networksOf(a)[1:])
	change(nil)
	if got := l.networksOf(a); len(got) != 2 {
		t.Errorf("the endpoint asks again, and has %v", got)
	}
}

func TestWithoutTheAnnotationNothingIsAssigned(t *testing.T) {
	t.Parallel()
	l, _ := newAskingLedger(t, `{}`)
	must(t, l.follow())
	plain := endpointOf("n1", "plain")
	_, err := l.store.Create(t.Context(), plain)
	must(t, err)
	elsewhere := endpointOf("n2", "elsewhere")
	elsewhere.Annotations = map[string]string{api.AddressAnnotation: `{}`}
	_, err = l.store.Create(t.Context(), elsewhere)
	must(t, err)
	must(t, l.follow())
	for _, ep := range []*api.WorkloadEndpoint{plain, elsewhere} {
		if got := l.networksOf(api.KeyOf(ep)); len(got) > 0 {
			t.Errorf("%s has got %v", ep.Name, got)
		}
	}
}

func TestWhyAnEndpointGetsNoAddresses(t *testing.T) {
	t.Parallel()
	l, a := newAskingLedger(t, `{"pools":["nowhere"]}`)
	full := l.createAsking("b", `{"ipv6Count":1}`)
	if err := l.follow(); err == nil {
		t.Error("no error")
	}
	for key, want := range map[api.Key]string{
		a:    "IPPool nowhere does not exist: create it, or name another one",
		full: "there is no IPPool with IPv6 addresses: create one",
	} {
		if got := l.unmet[key]; !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q, want %q", key, got, want)
		}
	}
	lock(t, datastore.New(l.memory), true)
	before := everything(t, l.memory)
	b := l.createAskingAs(datastore.New(l.memory), "c", `{}`)
	before[datastore.ResourceKey(b)] = everything(t, l.memory)[datastore.ResourceKey(b)]
	if err := l.follow(); err == nil || !strings.Contains(l.unmet[b], "the datastore is locked: margayctl datastore migrate unlock") {
		t.Errorf("locked: %v, %q", err, l.unmet[b])
	}
	if diff := cmp.Diff(before, everything(t, l.memory)); diff != "" {
		t.Errorf("written while the datastore is locked: %s", diff)
	}
	lock(t, datastore.New(l.memory), false)
	l.memory.Offline(errors.New("gone"))
	if err := l.pass(t.Context()); err == nil || !strings.Contains(l.unmet[b], "gone") {
		t.Errorf("away: %v, %q", err, l.unmet[b])
	}
	l.memory.Offline(nil)
	if err := l.follow(); err == nil {
		t.Error("the other endpoints still ask in vain")
	}
	if got := l.networksOf(b); len(got) != 1 {
		t.Errorf("after everything is well again it has %v", got)
	}
	if got := l.unmet[b]; got != "" {
		t.Errorf("it has its address, and still %q", got)
	}
}

func (l *ledger) createAskingAs(store *datastore.Store, workload, request string) api.Key {
	l.Helper()
	former := l.store
	l.store = store
	defer func() { l.store = former }()
	return l.createAsking(workload, request)
}

// A network set may name addresses of the future. They are passed over only as long as there are others.
func TestAddressesThatAnEndpointHasArePassedOver(t *testing.T) {
	t.Parallel()
	l, a := newAskingLedger(t, `{"count":64}`)
	has := endpointOf("n2", "byhand")
	has.Spec.IPNetworks = []string{"10.65.0.3/32"}
	_, err := l.store.Create(t.Context(), has)
	must(t, err)
	asked := 0
	l.having = func(_ context.Context, addrs map[netip.Addr]bool) (map[netip.Addr]bool, error) {
		asked++
		found := map[netip.Addr]bool{}
		for addr := range addrs {
			found[addr] = addr.As4()[3]%64 < 60 // 60 of each block: one is an endpoint's, the others are a network set's
		}
		return found, nil
	}
	must(t, l.follow())
	got := l.networksOf(a)
	if len(got) != 64 || slices.Contains(got, "10.65.0.3/32") {
		t.Errorf("it has got %v", got)
	}
	if asked > 4*4 {
		t.Errorf("the loop was asked %d times about 4 blocks", asked)
	}
}

// felix dies at every call to the datastore in turn, while endpoints ask for addresses and while they go. The next felix finishes
// the work, and nothing is leaked or assigned twice.
func TestADeathAtAnyCallLeaksNoAddress(t *testing.T) {
	t.Parallel()
	for _, death := range []kvtest.Fault{kvtest.Dies, kvtest.DiesAfter} {
		for at, died := 1, true; died; at++ {
			l, a := newAskingLedger(t, `{"count":2}`)
			l.createAsking("b", `{}`)
			died = l.dieAt(at, death)
			must(t, l.follow())
			if got := l.networksOf(a); len(got) != 2 {
				t.Errorf("call %d: it has got %v", at, got)
			}
			l.clean()
			_, err := l.store.Delete(t.Context(), a, "")
			must(t, err)
			died = l.dieAt(at, death) || died
			must(t, l.follow())
			l.clean()
			if c := l.check(); len(c.Allocations) != 1 || t.Failed() {
				t.Fatalf("fault %v at call %d: allocations %v", death, at, c.Allocations)
			}
			if at > 1000 {
				t.Fatal("there is no end of calls")
			}
		}
	}
}

// felix dies while it assigns, and the endpoint is deleted before it runs again.
func TestADeletionAfterADeathLeaksNoAddress(t *testing.T) {
	t.Parallel()
	for at, died := 1, true; died; at++ {
		l, a := newAskingLedger(t, `{"count":2}`)
		died = l.dieAt(at, kvtest.DiesAfter)
		_, err := l.store.Delete(t.Context(), a, "")
		must(t, err)
		must(t, l.follow())
		if c := l.check(); len(c.Allocations) > 0 {
			t.Fatalf("call %d: %v", at, c.Allocations)
		}
		l.clean()
	}
}

// dieAt lets the bookkeeper work until it dies at a call, and replaces it. It returns false if it lived to the end.
func (l *ledger) dieAt(at int, death kvtest.Fault) bool {
	l.Helper()
	m := &kvtest.Faulty{KV: l.memory, Choose: func(call int) kvtest.Fault {
		if call == at {
			return death
		}
		return kvtest.None
	}}
	healthy := l.store
	l.bookkeeper = newBookkeeper(quiet(), datastore.New(m).WhileUnlocked(), "n1", havingNone)
	_ = l.follow()
	l.bookkeeper = newBookkeeper(quiet(), healthy, "n1", havingNone)
	return m.Dead
}

// An endpoint that cannot get all its addresses holds none: others may need them.
func TestAnEndpointThatWaitsHoldsNoAddress(t *testing.T) {
	t.Parallel()
	for at, died := 1, true; died; at++ {
		l, a := newAskingLedger(t, `{"count":64,"ipv6Count":1}`)
		died = l.dieAt(at, kvtest.DiesAfter)
		if err := l.follow(); err == nil {
			t.Error("there is no pool with IPv6 addresses")
		}
		if c := l.check(); len(c.Allocations) > 0 || len(l.networksOf(a)) > 0 {
			t.Fatalf("call %d: it waits, and holds %v", at, c.Allocations)
		}
		l.clean()
	}
}

// counted counts the commits.
type counted struct {
	kv.KV
	commits int
}

func (c *counted) Commit(ctx context.Context, conditions []kv.Condition, writes []kv.Write) (kv.Outcome, error) {
	c.commits++
	return c.KV.Commit(ctx, conditions, writes)
}

// A request that can be met only in part writes nothing, however often news begins a pass.
func TestARequestThatCannotBeMetWritesNothing(t *testing.T) {
	t.Parallel()
	for _, request := range []string{`{"count":1,"ipv6Count":1}`, `{"pools":["small"],"count":2}`} {
		l, a := newAskingLedger(t, request)
		_, err := l.store.Create(t.Context(), &api.IPPool{
			TypeMeta: api.TypeMeta{Kind: "IPPool", APIVersion: api.APIVersion}, Metadata: api.Metadata{Name: "small"},
			Spec: api.IPPoolSpec{CIDR: "10.66.0.0/30", BlockSize: 30, NodeSelector: "!all()"},
		})
		must(t, err)
		_, err = ipam.Assign(t.Context(), l.memory, ipam.Request{Node: "n1", Handle: "other", V4: 3, Pools: []string{"small"}})
		must(t, err)
		counter := &counted{KV: l.memory}
		l.bookkeeper = newBookkeeper(quiet(), datastore.New(counter).WhileUnlocked(), "n1", havingNone)
		now := time.Now()
		l.now = func() time.Time { return now }
		for range 5 {
			if err := l.follow(); err == nil {
				t.Errorf("%s: no error", request)
			}
			now = now.Add(reserveAgain)
		}
		if counter.commits > 0 {
			t.Errorf("%s: %d commits in vain: %s", request, counter.commits, l.unmet[a])
		}
	}
}

// After a shortage felix waits, whatever news arrives: other programs may take and release addresses all the time.
func TestAShortageIsFollowedByAPause(t *testing.T) {
	t.Parallel()
	l, a := newAskingLedger(t, `{"ipv6Count":1}`)
	now := time.Now()
	l.now = func() time.Time { return now }
	if err := l.follow(); err == nil {
		t.Error("there is no pool with IPv6 addresses")
	}
	_, err := l.store.Create(t.Context(), &api.IPPool{
		TypeMeta: api.TypeMeta{Kind: "IPPool", APIVersion: api.APIVersion}, Metadata: api.Metadata{Name: "six"},
		Spec: api.IPPoolSpec{CIDR: "fd00:65::/64"},
	})
	must(t, err)
	now = now.Add(reserveAgain - time.Second)
	if err := l.follow(); err == nil || len(l.networksOf(a)) > 0 || l.unmet[a] == "" {
		t.Errorf("before the pause has ended: %v, %v, %q", err, l.networksOf(a), l.unmet[a])
	}
	if got := l.patience(); got != time.Second {
		t.Errorf("the next pass is after %v", got)
	}
	now = now.Add(time.Second)
	if err := l.follow(); err != nil || len(l.networksOf(a)) != 1 {
		t.Errorf("after the pause: %v, %v", err, l.networksOf(a))
	}
}

// felix died after it had assigned the last free addresses and before it wrote them into the endpoint. Another endpoint that asks for
// the same comes first, and gets none.
func TestAnEndpointThatHoldsItsAddressesGetsThem(t *testing.T) {
	t.Parallel()
	for _, request := range []string{`{"pools":["small"]}`, `{"pools":["small"],"count":2}`} {
		l, first := newAskingLedger(t, request)
		_, err := l.store.Create(t.Context(), &api.IPPool{
			TypeMeta: api.TypeMeta{Kind: "IPPool", APIVersion: api.APIVersion}, Metadata: api.Metadata{Name: "small"},
			Spec: api.IPPoolSpec{CIDR: "10.66.0.0/30", BlockSize: 30, NodeSelector: "!all()"},
		})
		must(t, err)
		last := l.createAsking("b", request)
		count := l.asks[last].Count
		mine := ipam.Request{Node: "n1", Handle: assignedHandle(last), Attributes: l.attributes(last), V4: count, Pools: []string{"small"}}
		_, err = ipam.Assign(t.Context(), l.memory, mine)
		must(t, err)
		_, err = ipam.Assign(t.Context(), l.memory, ipam.Request{Node: "n1", Handle: "other", V4: 4 - count, Pools: []string{"small"}})
		must(t, err)
		if err := l.follow(); err == nil || l.unmet[first] == "" {
			t.Errorf("%s: the first has got %v", request, l.networksOf(first))
		}
		if got := l.networksOf(last); len(got) != count {
			t.Errorf("%s: it holds addresses, and has got %v: %s", request, got, l.unmet[last])
		}
	}
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/ipam"
)

// reservation says that an endpoint of this node has an address, in IPAM or by its own spec.
type reservation struct {
	addr     netip.Addr
	endpoint api.Key
}

// handlePrefix begins the IPAM handles of addresses that operators wrote into endpoints.
const handlePrefix = api.HandlePrefix

func (r reservation) handle() string { return api.AddressHandle(r.endpoint, r.addr.String()) }

// reservations records in IPAM the addresses that operators wrote into local endpoints, and assigns addresses to those that ask for
// some. It runs beside the loop: enforcement never waits for it.
type reservations struct {
	log    *logrus.Entry
	node   string
	news   chan books
	having having

	mu    sync.Mutex
	unmet map[api.Key]string // endpoints that did not get addresses in the last pass, and why
}

// having returns those of some addresses that an endpoint or a network set of the datastore has.
type having func(context.Context, map[netip.Addr]bool) (map[netip.Addr]bool, error)

// books compares the addresses of endpoints with the blocks of the datastore.
type books struct {
	wanted   map[reservation]bool // endpoints of this node have these addresses
	recorded map[reservation]bool // the blocks have these under handles of this node's endpoints
	reserved map[reservation]bool // wanted addresses that are allocated, under any handle, in a block that has an owner
	shared   map[netip.Addr]bool  // recorded addresses that are not wanted, but that another endpoint may have
	asking   asking
}

func newReservations(log *logrus.Entry, node string, having having) *reservations {
	return &reservations{log: log, node: node, news: make(chan books, 1), having: having}
}

// set replaces the books. Those that run has not taken yet are dropped.
func (r *reservations) set(b books) {
	select {
	case <-r.news:
	default:
	}
	r.news <- b
}

// run reserves and releases until ctx ends. It tries again after a failure.
func (r *reservations) run(ctx context.Context, store *datastore.Store) {
	w := newBookkeeper(r.log, store, r.node, r.having)
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	failing := ""
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-r.news:
			w.books = b
		case <-retry.C:
		}
		err := w.pass(ctx)
		if ctx.Err() != nil {
			return
		}
		r.note(w.unmet)
		switch {
		case err != nil:
			retry.Reset(w.patience())
		case len(w.kept) > 0:
			retry.Reset(askAgain)
		}
		if err != nil && err.Error() != failing {
			r.log.WithError(err).Warn("some addresses of this node's endpoints cannot be recorded or assigned in IPAM; felix tries again")
		}
		failing = text(err)
	}
}

const (
	reserveAgain = 5 * time.Second // after a failure
	askAgain     = time.Minute     // between checks whether another endpoint still has an address that is kept for it
)

// bookkeeper brings the blocks in line with the endpoints. An address that an endpoint has is never free in between: it goes from
// one holder to the next in one transaction.
type bookkeeper struct {
	log    *logrus.Entry
	store  *datastore.Store
	node   string
	having having
	books
	kept    map[reservation]time.Time // kept for another endpoint, and when that was last checked
	foreign map[reservation]bool      // allocated under the handle of another allocator, which releases it
	unmet   map[api.Key]string        // endpoints that did not get addresses in this pass, and why
	// By request: attempts that found too few addresses. Endpoints that ask for the same need not try in vain one by one, and news does
	// not begin another attempt: what felix writes is news, too.
	short map[string]shortage
	now   func() time.Time
}

func newBookkeeper(log *logrus.Entry, store *datastore.Store, node string, having having) *bookkeeper {
	return &bookkeeper{log: log, store: store, node: node, having: having, kept: map[reservation]time.Time{}, foreign: map[reservation]bool{}, short: map[string]shortage{}, now: time.Now}
}

// pass works on every difference and returns the first failure.
func (w *bookkeeper) pass(ctx context.Context) (failure error) {
	note := func(err error) { failure = cmp.Or(failure, err) }
	maps.DeleteFunc(w.kept, func(is reservation, _ time.Time) bool { return !w.recorded[is] || w.wanted[is] })
	maps.DeleteFunc(w.foreign, func(is reservation, _ bool) bool { return !w.reserved[is] })
	for is := range w.recorded {
		if _, asks := w.asking[is.endpoint]; !w.wanted[is] && !asks {
			note(w.leave(ctx, is))
		}
	}
	for should := range w.wanted {
		switch {
		case !w.reserved[should]:
			note(ipam.Reserve(ctx, w.store.KV(), w.node, should.addr, should.handle(), w.attributes(should.endpoint)))
		case !w.recorded[should] && !w.foreign[should]:
			note(w.inherit(ctx, should))
		}
	}
	note(w.giveAll(ctx))
	return failure
}

// attributes returns what IPAM stores about the holder of an address.
func (w *bookkeeper) attributes(endpoint api.Key) map[string]string {
	return api.AddressAttributes(w.node, endpoint)
}

// leave gives up an address that is recorded for an endpoint that is not on this node any more. Another endpoint of this node that
// has the address gets it. If no endpoint has it, it becomes free. An endpoint that is only invalid, or in no pool, keeps it.
func (w *bookkeeper) leave(ctx context.Context, is reservation) error {
	holder, taken, err := ipam.Lookup(ctx, w.store.KV(), is.addr)
	if err != nil || !taken || !isFor(holder, is.endpoint) {
		return err // the blocks have changed since
	}
	for other := range w.wanted {
		if other.addr == is.addr {
			_, err := ipam.Transfer(ctx, w.store.KV(), is.addr, holder.Handle, other.handle(), w.attributes(other.endpoint))
			return err
		}
	}
	if has, err := w.has(ctx, is.endpoint, is.addr); has || err != nil {
		return err
	}
	if w.shared[is.addr] {
		if w.now().Sub(w.kept[is]) < askAgain {
			return nil
		}
		if used, err := w.isUsed(ctx, is.addr); used || err != nil {
			w.kept[is] = w.now() // the agent of that endpoint's node takes the address over
			return err
		}
	}
	return ipam.ReleaseHeld(ctx, w.store.KV(), is.addr, holder.Handle)
}

// isFor says whether an address is recorded for an endpoint, under a handle of an agent.
func isFor(holder ipam.Assignment, endpoint api.Key) bool {
	return strings.HasPrefix(holder.Handle, handlePrefix) && holder.Attributes["namespace"] == endpoint.Namespace && holder.Attributes["pod"] == endpoint.Name
}

// inherit takes over an address for an endpoint of this node from an endpoint that had it before. The former one may have been
// renamed, or have moved, or its node may be dead.
func (w *bookkeeper) inherit(ctx context.Context, should reservation) error {
	holder, taken, err := ipam.Lookup(ctx, w.store.KV(), should.addr)
	if err != nil || !taken {
		return err // if it is free now, a change of its block follows
	}
	if !strings.HasPrefix(holder.Handle, handlePrefix) {
		w.foreign[should] = true
		return nil
	}
	former := api.Key{Kind: should.endpoint.Kind, Namespace: holder.Attributes["namespace"], Name: holder.Attributes["pod"]}
	if former != should.endpoint {
		if has, err := w.has(ctx, former, should.addr); has || err != nil {
			return err // both have it: the former holder keeps it until it goes
		}
	}
	_, err = ipam.Transfer(ctx, w.store.KV(), should.addr, holder.Handle, should.handle(), w.attributes(should.endpoint))
	return err
}

// has says whether the stored endpoint has an address. If the endpoint cannot be read, has returns an error.
func (w *bookkeeper) has(ctx context.Context, endpoint api.Key, addr netip.Addr) (bool, error) {
	stored, err := w.store.Get(ctx, endpoint)
	switch {
	case isError[datastore.NotFoundError](err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("check whether %v still has %v: %w", endpoint, addr, err)
	}
	ep, ok := stored.(*api.WorkloadEndpoint)
	return ok && hasAddress(ep, addr), nil
}

func hasAddress(ep *api.WorkloadEndpoint, addr netip.Addr) bool {
	return slices.ContainsFunc(ep.Spec.IPNetworks, func(text string) bool {
		prefix, err := api.ParseNet(text)
		return err != nil || prefix.Addr() == addr
	})
}

// isUsed says whether any stored endpoint has an address. It reads all of them.
func (w *bookkeeper) isUsed(ctx context.Context, addr netip.Addr) (used bool, err error) {
	err = w.store.EachPage(ctx, api.KindWorkloadEndpoint, "", func(page []api.Object, _ string) error {
		used = used || slices.ContainsFunc(page, func(o api.Object) bool {
			ep, ok := o.(*api.WorkloadEndpoint)
			return ok && hasAddress(ep, addr)
		})
		return nil
	})
	return used, err
}

// unplugged holds the addresses of this node's workload endpoints without interfaceName. The calculation leaves these endpoints out,
// because they govern nothing; nobody else may get their addresses all the same.
type unplugged map[api.Key][]netip.Addr

// update notes that a workload endpoint of any node has changed or gone.
func (n unplugged) update(node string, u api.Update) {
	delete(n, u.Key)
	ep, ok := u.Object.(*api.WorkloadEndpoint)
	if !ok || ep == nil || ep.Spec.Node != node || ep.Spec.InterfaceName != "" {
		return
	}
	for _, text := range ep.Spec.IPNetworks {
		if prefix, err := api.ParseNet(text); err == nil && prefix.IsSingleIP() {
			n[u.Key] = append(n[u.Key], prefix.Addr())
		}
	}
}

// wantedReservations returns the addresses of the node's workloads that lie in a pool.
func wantedReservations(state *calc.State, others unplugged) map[reservation]bool {
	want := map[reservation]bool{}
	add := func(endpoint api.Key, addrs []netip.Addr) {
		for _, addr := range addrs {
			for prefix := range state.Pools {
				if prefix.Contains(addr) {
					want[reservation{addr, endpoint}] = true
				}
			}
		}
	}
	for id, ep := range state.Endpoints {
		if id.Kind == api.KindWorkloadEndpoint {
			add(api.Key{Kind: id.Kind, Namespace: id.Namespace, Name: id.Name}, ep.Addresses)
		}
	}
	for endpoint, addrs := range others {
		add(endpoint, addrs)
	}
	return want
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/ipam"
)

// asking holds the endpoints of this node that have no addresses and ask for some.
type asking map[api.Key]api.AddressRequest

// update notes that a workload endpoint of any node has changed or gone. An invalid request is no request: the object is invalid then,
// and shown as such.
func (a asking) update(node string, u api.Update) {
	delete(a, u.Key)
	ep, ok := u.Object.(*api.WorkloadEndpoint)
	if !ok || ep == nil || ep.Spec.Node != node {
		return
	}
	if request, asks, err := api.AddressRequestOf(ep); asks && err == nil {
		a[u.Key] = request
	}
}

// assignedHandle is the handle of the addresses that felix assigns to an endpoint. The handles of addresses that operators wrote end
// with the address, so no two are the same.
func assignedHandle(endpoint api.Key) string {
	return api.AddressHandle(endpoint, api.ChosenAddresses)
}

// giveAll assigns addresses to every endpoint that asks for some. It returns the first failure.
func (w *bookkeeper) giveAll(ctx context.Context) (failure error) {
	w.unmet = map[api.Key]string{}
	maps.DeleteFunc(w.short, func(_ string, s shortage) bool { return !w.now().Before(s.until) })
	var stopped error // the datastore is locked, or does not answer: no other attempt would succeed
	eyes := &lookout{having: w.having, known: map[netip.Addr]bool{}}
	for _, endpoint := range slices.SortedFunc(maps.Keys(w.asking), compareKeys) {
		request := w.asking[endpoint]
		same := fmt.Sprintf("%s %q %d %d", endpoint.Namespace, request.Pools, request.Count, request.IPv6Count)
		if w.holds(endpoint) {
			same += " " + endpoint.String() // it may need no free address
		}
		err := cmp.Or(stopped, w.short[same].err)
		if err == nil {
			err = w.give(ctx, endpoint, eyes)
		}
		switch {
		case err == nil:
			continue
		case isError[*ipam.ShortageError](err):
			if _, paused := w.short[same]; !paused {
				w.short[same] = shortage{err, w.now().Add(reserveAgain)}
			}
		case errors.Is(err, datastore.ErrLocked) || errors.Is(err, context.DeadlineExceeded):
			stopped = err
		}
		w.unmet[endpoint] = strings.TrimPrefix(text(err), "assign addresses to "+assignedHandle(endpoint)+": ") // the status names the endpoint
		failure = cmp.Or(failure, fmt.Errorf("%v: %w", endpoint, err))
	}
	return failure
}

// holds says whether the blocks have addresses for an endpoint, as when felix died before it wrote them into the object.
func (w *bookkeeper) holds(endpoint api.Key) bool {
	for is := range w.recorded {
		if is.endpoint == endpoint {
			return true
		}
	}
	return false
}

// shortage is an attempt that found too few free addresses.
type shortage struct {
	err   error
	until time.Time // no attempt before
}

// patience returns the time until the next pass after a failure. A pass that news has begun meanwhile does not put an attempt off.
func (w *bookkeeper) patience() time.Duration {
	wait := reserveAgain
	for _, s := range w.short {
		wait = min(wait, s.until.Sub(w.now()))
	}
	return wait
}

func compareKeys(a, b api.Key) int { return strings.Compare(a.String(), b.String()) }

// give assigns addresses to an endpoint and writes them into the object. The handle names the endpoint, and IPAM counts what it holds
// already: if felix dies in between, the next attempt continues. Addresses that the endpoint does not get after all are left later,
// as those of a deleted endpoint.
func (w *bookkeeper) give(ctx context.Context, endpoint api.Key, eyes *lookout) error {
	ep, request, err := w.asks(ctx, endpoint)
	if ep == nil || err != nil {
		return err
	}
	addrs, err := w.assign(ctx, endpoint, request, eyes)
	if err != nil {
		return err
	}
	ep.Spec.IPNetworks = nil
	for _, addr := range addrs {
		ep.Spec.IPNetworks = append(ep.Spec.IPNetworks, netip.PrefixFrom(addr, addr.BitLen()).String())
	}
	_, err = w.store.Update(ctx, ep)
	switch {
	case isError[datastore.ConflictError](err) || isError[datastore.NotFoundError](err):
		return nil // its change arrives soon, and begins another pass
	case err != nil:
		return fmt.Errorf("write the addresses %v into the endpoint: %w", addrs, err)
	}
	w.log.WithField("endpoint", endpoint.String()).WithField("addresses", strings.Join(ep.Spec.IPNetworks, ",")).Info("endpoint has got its addresses")
	return nil
}

// asks returns the stored endpoint and its request; nil if it asks for nothing now.
func (w *bookkeeper) asks(ctx context.Context, endpoint api.Key) (*api.WorkloadEndpoint, api.AddressRequest, error) {
	stored, err := w.store.Get(ctx, endpoint)
	if isError[datastore.NotFoundError](err) {
		return nil, api.AddressRequest{}, nil
	}
	if err != nil {
		return nil, api.AddressRequest{}, err
	}
	ep, ok := stored.(*api.WorkloadEndpoint)
	if !ok || ep.Spec.Node != w.node {
		return nil, api.AddressRequest{}, nil
	}
	request, asks, err := api.AddressRequestOf(ep)
	if !asks || err != nil {
		return nil, request, err
	}
	return ep, request, nil
}

// assign assigns the addresses of a request. An endpoint that holds more than it asks for now, because it asked for more before, gets
// as many as it asks for.
func (w *bookkeeper) assign(ctx context.Context, endpoint api.Key, r api.AddressRequest, eyes *lookout) ([]netip.Addr, error) {
	request := ipam.Request{
		Node: w.node, Namespace: endpoint.Namespace, Handle: assignedHandle(endpoint), Attributes: w.attributes(endpoint),
		Pools: r.Pools, V4: r.Count, V6: r.IPv6Count, InUse: eyes.inUse,
	}
	addrs, err := ipam.Assign(ctx, w.store.KV(), request)
	if isError[*ipam.ShortageError](err) && eyes.passedOver {
		request.InUse = ipam.UsesIn(w.store.KV())
		addrs, err = ipam.Assign(ctx, w.store.KV(), request)
	}
	if isError[*ipam.ShortageError](err) {
		// A former attempt may have died with some of the addresses. Others may need them while this endpoint waits.
		return nil, errors.Join(err, ipam.Release(ctx, w.store.KV(), request.Handle))
	}
	left := map[bool]int{true: r.Count, false: r.IPv6Count} // by whether the address is IPv4
	return slices.DeleteFunc(addrs, func(addr netip.Addr) bool {
		left[addr.Is4()]--
		return left[addr.Is4()] < 0
	}), err
}

// lookout finds free addresses that an endpoint has already, although IPAM does not know it yet: a hand-written address of a node whose
// agent does not run. It takes those of network sets for addresses of endpoints, because it is quick. If too few are left, ipam.UsesIn
// reads all endpoints.
type lookout struct {
	having     having
	known      map[netip.Addr]bool // answers of this pass
	passedOver bool                // a free address was passed over
}

func (l *lookout) inUse(ctx context.Context, free []netip.Addr) (map[netip.Addr]bool, error) {
	unknown := map[netip.Addr]bool{}
	for _, addr := range free {
		if _, known := l.known[addr]; !known {
			unknown[addr] = true
		}
	}
	if len(unknown) > 0 {
		found, err := l.having(ctx, unknown)
		if err != nil {
			return nil, err
		}
		for addr := range unknown {
			l.known[addr] = found[addr]
			l.passedOver = l.passedOver || found[addr]
		}
	}
	return l.known, nil
}

// having asks the loop which addresses an endpoint or a network set has.
func (a *agent) having(ctx context.Context, addrs map[netip.Addr]bool) (map[netip.Addr]bool, error) {
	answer := make(chan map[netip.Addr]bool, 1)
	select {
	case a.lookups <- func(a *agent) { answer <- a.graph.Having(addrs) }:
		return <-answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// note keeps the endpoints that did not get addresses, for status.
func (r *reservations) note(unmet map[api.Key]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unmet = maps.Clone(unmet)
}

// whyUnmet says why an endpoint did not get addresses; empty if no attempt has failed.
func (r *reservations) whyUnmet(endpoint api.Key) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unmet[endpoint]
}

// addressProblems says of each endpoint that asks for addresses why it has none. The calculation has another problem: the endpoint
// is closed meanwhile.
func (a *agent) addressProblems() (list []*agentv1.Problem) {
	if len(a.asking) == 0 {
		return nil
	}
	connected, _, _ := a.connection.state()
	for endpoint := range a.asking {
		why := a.reservations.whyUnmet(endpoint)
		switch {
		case !connected:
			why = "the datastore does not answer; felix assigns them when it does"
		case a.inSync && !a.state.Ready:
			why = "the datastore is locked; margayctl datastore migrate unlock ends that, and felix assigns them then"
		case why == "":
			continue
		}
		list = append(list, &agentv1.Problem{Object: endpoint.String(), Text: "cannot get its addresses: " + why})
	}
	return list
}

package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/ipam"
)

// reservation is an address that IPAM knows, or should know, as held by an endpoint of this node.
type reservation struct {
	addr     netip.Addr
	endpoint api.Key
}

// handlePrefix begins the IPAM handles of addresses that operators wrote into endpoints.
const handlePrefix = "margay."

func (r reservation) handle() string {
	return handlePrefix + r.endpoint.Namespace + "." + r.endpoint.Name + "." + r.addr.String()
}

// reservations keeps IPAM informed of the addresses that operators wrote into local endpoints. It works behind the
// loop: nothing that is enforced waits for it.
type reservations struct {
	log  *logrus.Entry
	node string
	news chan books
}

// books are what should be reserved, and what the datastore's blocks say is.
type books struct{ wanted, recorded map[reservation]bool }

func newReservations(log *logrus.Entry, node string) *reservations {
	return &reservations{log: log, node: node, news: make(chan books, 1)}
}

// set replaces the books; only the newest matter.
func (r *reservations) set(b books) {
	select {
	case <-r.news:
	default:
	}
	r.news <- b
}

// run reserves and releases until ctx ends. What fails is tried again.
func (r *reservations) run(ctx context.Context, store *datastore.Store) {
	w := bookkeeper{store: store, node: r.node, held: map[reservation]bool{}}
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	failing := ""
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-r.news:
			w.update(b)
		case <-retry.C:
		}
		err := w.pass(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			retry.Reset(reserveAgain)
		}
		if err != nil && err.Error() != failing {
			r.log.WithError(err).Warn("IPAM does not know all addresses of this node's endpoints; trying again")
		}
		failing = text(err)
	}
}

const reserveAgain = 5 * time.Second

// bookkeeper makes what is recorded the same as what is wanted.
type bookkeeper struct {
	store *datastore.Store
	node  string
	books
	held map[reservation]bool // by whomever: Reserve said so, and no block has denied it since
}

func (w *bookkeeper) update(b books) {
	for is := range w.recorded {
		if !b.recorded[is] {
			delete(w.held, is) // somebody released it
		}
	}
	w.books = b
}

// pass works on every difference between the books and returns the first failure.
func (w *bookkeeper) pass(ctx context.Context) (failure error) {
	maps.DeleteFunc(w.held, func(is reservation, _ bool) bool { return !w.wanted[is] })
	for is := range w.recorded {
		if w.wanted[is] {
			w.held[is] = true
		} else if err := w.release(ctx, is); err != nil && failure == nil {
			failure = err
		}
	}
	for should := range w.wanted {
		if w.held[should] {
			continue
		}
		err := ipam.Reserve(ctx, w.store.KV(), w.node, should.addr, should.handle(), map[string]string{
			"node": w.node, "namespace": should.endpoint.Namespace, "pod": should.endpoint.Name,
		})
		if err == nil {
			w.held[should] = true
		} else if failure == nil {
			failure = err
		}
	}
	return failure
}

// release gives an address back once its endpoint is gone from the datastore, or has another address. An endpoint that
// is only invalid, or moved, keeps it.
func (w *bookkeeper) release(ctx context.Context, is reservation) error {
	stored, err := w.store.Get(ctx, is.endpoint)
	if err == nil {
		if ep, ok := stored.(*api.WorkloadEndpoint); ok && slices.ContainsFunc(ep.Spec.IPNetworks, func(text string) bool {
			prefix, err := api.ParseNet(text)
			return err != nil || prefix.Addr() == is.addr
		}) {
			return nil
		}
	} else if !isError[datastore.NotFoundError](err) {
		return fmt.Errorf("release %v: %w", is.addr, err)
	}
	return ipam.Release(ctx, w.store.KV(), is.handle())
}

// wantedReservations are the addresses of the node's workloads that lie in a pool.
func wantedReservations(state *calc.State) map[reservation]bool {
	want := map[reservation]bool{}
	for id, ep := range state.Endpoints {
		if id.Kind != "WorkloadEndpoint" {
			continue
		}
		for _, addr := range ep.Addresses {
			for prefix := range state.Pools {
				if prefix.Contains(addr) {
					want[reservation{addr, api.Key{Kind: id.Kind, Namespace: id.Namespace, Name: id.Name}}] = true
				}
			}
		}
	}
	return want
}

// recordedReservations are the addresses that a block records under handles of this node's endpoints.
func recordedReservations(block *api.IPAMBlock, node string) map[reservation]bool {
	recorded := map[reservation]bool{}
	cidr, err := netip.ParsePrefix(block.CIDR)
	if err != nil {
		return recorded
	}
	addr := cidr.Addr()
	for _, attribute := range block.Allocations {
		if attribute != nil && *attribute >= 0 && *attribute < len(block.Attributes) {
			a := block.Attributes[*attribute]
			if a.HandleID != nil && strings.HasPrefix(*a.HandleID, handlePrefix) && a.Secondary["node"] == node && a.ReleasedAt == nil {
				recorded[reservation{addr, api.Key{
					Kind: "WorkloadEndpoint", Namespace: a.Secondary["namespace"], Name: a.Secondary["pod"],
				}}] = true
			}
		}
		addr = addr.Next()
	}
	return recorded
}

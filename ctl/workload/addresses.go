package workload

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/ipam"
)

// addresses returns the ipNetworks of an endpoint, and records them in IPAM. With a request, an endpoint keeps the addresses that it
// has, and gets those of the same workload on another node: it moves. IPAM gives it the missing ones.
func (c *change) addresses(ctx context.Context, ep *api.WorkloadEndpoint, request *api.AddressRequest, stored *api.WorkloadEndpoint) ([]string, error) {
	if request == nil {
		var networks []string
		for _, text := range ep.Spec.IPNetworks {
			addr, err := ParseAddress(text)
			if err != nil {
				return nil, err
			}
			if err := c.hold(ctx, ep, addr); err != nil {
				return nil, err
			}
			networks = append(networks, single(addr))
		}
		return networks, nil
	}
	for _, has := range append([]*api.WorkloadEndpoint{stored}, c.twins(ep)...) {
		if has != nil && has.Annotations[api.AddressAnnotation] == request.Text() && len(has.Spec.IPNetworks) == request.Count+request.IPv6Count {
			return has.Spec.IPNetworks, nil
		}
	}
	return c.choose(ctx, ep, request)
}

// choose has IPAM choose addresses, under the same handle as the agent: it counts what the endpoint has already.
func (c *change) choose(ctx context.Context, ep *api.WorkloadEndpoint, request *api.AddressRequest) (networks []string, err error) {
	key := api.KeyOf(ep)
	addrs, err := ipam.Assign(ctx, c.tx.KV(), ipam.Request{
		Node: ep.Spec.Node, Namespace: ep.Namespace, Handle: api.AddressHandle(key, api.ChosenAddresses),
		Attributes: api.AddressAttributes(ep.Spec.Node, key), Pools: request.Pools, V4: request.Count, V6: request.IPv6Count,
		InUse: ipam.UsesIn(c.tx.KV()),
	})
	if err != nil {
		return nil, err
	}
	left := map[bool]int{true: request.Count, false: request.IPv6Count} // by whether the address is IPv4
	for _, addr := range addrs {
		if left[addr.Is4()]--; left[addr.Is4()] >= 0 {
			networks = append(networks, single(addr))
		} else if err := ipam.ReleaseHeld(ctx, c.tx.KV(), addr, api.AddressHandle(key, api.ChosenAddresses)); err != nil {
			return nil, err
		}
	}
	return networks, nil
}

// hold records an address that somebody chose for an endpoint, so that IPAM does not give it to others. An address outside of all pools
// needs no record. The error names the present holder.
func (c *change) hold(ctx context.Context, ep *api.WorkloadEndpoint, addr netip.Addr) error {
	if other := c.otherUser(ep, addr); other != nil {
		return hints.With(fmt.Errorf("%v has the address %v already", api.KeyOf(other), addr), "give another address, or take it from that endpoint first")
	}
	key := api.KeyOf(ep)
	handle, attributes := api.AddressHandle(key, addr.String()), api.AddressAttributes(ep.Spec.Node, key)
	holder, held, err := ipam.Lookup(ctx, c.tx.KV(), addr)
	switch {
	case err != nil:
		return err
	case !held:
		err := ipam.Reserve(ctx, c.tx.KV(), ep.Spec.Node, addr, handle, attributes)
		if errors.Is(err, ipam.ErrNoPool) {
			return nil
		}
		return err
	case holder.Handle == handle:
		return nil
	case !strings.HasPrefix(holder.Handle, api.HandlePrefix):
		return hints.With(fmt.Errorf("IPAM has given the address %v to %s", addr, holder.Handle),
			fmt.Sprintf("give another address, or release it there: margayctl ipam release --ip=%v", addr))
	}
	former := api.Key{Kind: api.KindWorkloadEndpoint, Namespace: holder.Attributes["namespace"], Name: holder.Attributes["pod"]}
	switch keeps, err := c.keeps(ctx, former, addr); {
	case err != nil:
		return fmt.Errorf("%v may still have the address %v: %w", former, addr, err)
	case keeps && former != key:
		return nil // it is the same workload on another node, whose agent keeps the record until the workload has moved
	}
	_, err = ipam.Transfer(ctx, c.tx.KV(), addr, holder.Handle, handle, attributes)
	return err
}

// keeps says whether a stored endpoint has an address, and has it after the change.
func (c *change) keeps(ctx context.Context, key api.Key, addr netip.Addr) (bool, error) {
	o, err := c.tx.Get(ctx, key)
	if _, missing := errors.AsType[datastore.NotFoundError](err); missing {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ep, ok := o.(*api.WorkloadEndpoint)
	return ok && has(ep, addr) && !c.leaves(ep), nil
}

// releaseFormer gives back the addresses of a stored endpoint that it loses. If another endpoint has one of them, that one gets its record.
func (c *change) releaseFormer(ctx context.Context, stored *api.WorkloadEndpoint, kept []string) error {
	key := api.KeyOf(stored)
	for _, text := range stored.Spec.IPNetworks {
		addr, err := ParseAddress(text)
		if err != nil || slices.Contains(kept, single(addr)) {
			continue
		}
		for _, of := range []string{addr.String(), api.ChosenAddresses} {
			if err := c.passOn(ctx, stored, addr, api.AddressHandle(key, of)); err != nil {
				return err
			}
		}
	}
	return nil
}

// passOn gives up an address that a handle of an endpoint may hold.
func (c *change) passOn(ctx context.Context, from *api.WorkloadEndpoint, addr netip.Addr, handle string) error {
	for _, other := range c.others(from) {
		if !has(other, addr) {
			continue
		}
		to := api.KeyOf(other)
		_, err := ipam.Transfer(ctx, c.tx.KV(), addr, handle, api.AddressHandle(to, addr.String()), api.AddressAttributes(other.Spec.Node, to))
		return err
	}
	return ipam.ReleaseHeld(ctx, c.tx.KV(), addr, handle)
}

// otherUser returns an endpoint of another workload that has an address after the change, or nil.
func (c *change) otherUser(ep *api.WorkloadEndpoint, addr netip.Addr) *api.WorkloadEndpoint {
	for _, other := range c.others(ep) {
		if has(other, addr) && !isTwin(ep, other) {
			return other
		}
	}
	return nil
}

// others returns all endpoints after the change but one. Those of the change have the addresses that somebody gave them.
func (c *change) others(but *api.WorkloadEndpoint) (list []*api.WorkloadEndpoint) {
	for _, wanted := range c.set.Wanted {
		if api.KeyOf(wanted.Endpoint) != api.KeyOf(but) {
			list = append(list, wanted.Endpoint)
		}
	}
	for _, stored := range c.stored {
		if api.KeyOf(stored) != api.KeyOf(but) && !c.leaves(stored) && !c.wants(api.KeyOf(stored)) {
			list = append(list, stored)
		}
	}
	return list
}

// twins returns the endpoints of the same interface of the same workload on other nodes: the workload moves.
func (c *change) twins(ep *api.WorkloadEndpoint) (found []*api.WorkloadEndpoint) {
	for _, other := range c.stored {
		if isTwin(ep, other) {
			found = append(found, other)
		}
	}
	return found
}

func isTwin(a, b *api.WorkloadEndpoint) bool {
	return a.Namespace == b.Namespace && a.Spec.Orchestrator == b.Spec.Orchestrator && a.Spec.Workload == b.Spec.Workload &&
		a.Spec.Endpoint == b.Spec.Endpoint && a.Spec.Node != b.Spec.Node
}

func has(ep *api.WorkloadEndpoint, addr netip.Addr) bool {
	return slices.ContainsFunc(ep.Spec.IPNetworks, func(text string) bool {
		prefix, err := api.ParseNet(text)
		return err == nil && prefix.Addr() == addr
	})
}

// ParseAddress reads an address, bare or with the length of a single one.
func ParseAddress(text string) (netip.Addr, error) {
	prefix, err := api.ParseNet(text)
	if err != nil || !prefix.IsSingleIP() {
		return netip.Addr{}, fmt.Errorf("%q is not one address: want one such as 10.65.0.7 or fd00::7", text)
	}
	return prefix.Addr(), nil
}

func single(addr netip.Addr) string { return netip.PrefixFrom(addr, addr.BitLen()).String() }

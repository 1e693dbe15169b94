package datastore

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/datastore/kv"
)

// Rules between objects, checked when one of them changes. A check returns conditions for the commit: they fail if an object that
// the check has read changes before the commit.

func (s *Store) beforeCreate(ctx context.Context, o api.Object) ([]Condition, error) {
	if key := api.KeyOf(o); synthetic(key) != nil {
		return nil, ExistsError{Key: key, Current: synthetic(key)}
	}
	if tier, inTier := tierOf(o); inTier {
		return s.tierExists(ctx, orDefault(tier), o)
	}
	switch o := o.(type) {
	case *api.IPPool:
		return s.poolFits(ctx, o)
	case *api.BGPPeer:
		return s.filtersExist(ctx, o)
	case *api.Node:
		if err := s.EnsureInitialized(ctx); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// beforeUpdate checks an update of old to o. old is nil if the stored value is unreadable.
func (s *Store) beforeUpdate(ctx context.Context, old, o api.Object) ([]Condition, error) {
	if tier, inTier := tierOf(o); inTier {
		if was, readable := tierOf(old); !readable || orDefault(was) != orDefault(tier) {
			return s.tierExists(ctx, orDefault(tier), o)
		}
		return nil, nil
	}
	switch o := o.(type) {
	case *api.IPPool:
		if was, ok := old.(*api.IPPool); ok {
			return nil, poolKeepsShape(was, o)
		}
	case *api.BGPPeer:
		return s.filtersExist(ctx, o)
	}
	return nil, nil
}

const (
	builtIn  = "it is built in"
	onlyIPAM = "only IPAM writes block affinities: use margayctl ipam to show and release addresses"
)

// Deletable returns an error for objects that may never be deleted.
func Deletable(key api.Key) error {
	if synthetic(key) != nil {
		return UnsupportedError{Operation: "Delete", Key: key, Reason: builtIn}
	}
	if key.Kind == api.KindBlockAffinity {
		return UnsupportedError{Operation: "Delete", Key: key, Reason: onlyIPAM}
	}
	if key.Kind == api.KindTier && (key.Name == defaultTier || key.Name == "kube-admin" || key.Name == "kube-baseline") {
		return UnsupportedError{Operation: "Delete", Key: key, Reason: builtIn}
	}
	return nil
}

func (s *Store) beforeDelete(ctx context.Context, key api.Key) ([]Condition, error) {
	if key.Kind == api.KindTier {
		return s.tierEmpty(ctx, key)
	}
	return nil, nil
}

// clearBeforeDelete deletes or releases everything that depends on an object that is about to be deleted. It says whether it changed
// the object itself.
func (s *Store) clearBeforeDelete(ctx context.Context, key api.Key, entry *Entry, old api.Object) (changed bool, err error) {
	if key.Kind == api.KindNode {
		return false, s.clearNode(ctx, key.Name)
	}
	if pool, ok := old.(*api.IPPool); ok {
		return s.drainPool(ctx, key, entry, pool)
	}
	return false, nil
}

// tierExists returns an error if the tier of a policy does not exist. The condition fails if the tier changes before the commit.
func (s *Store) tierExists(ctx context.Context, name string, policy api.Object) ([]Condition, error) {
	key := api.Key{Kind: api.KindTier, Name: name}
	entry, err := s.find(ctx, key)
	if isNotFound(err) {
		return nil, NotFoundError{Key: key, Wanted: fmt.Sprintf("spec.tier of %v", api.KeyOf(policy))}
	}
	if err != nil {
		return nil, err
	}
	return []Condition{{Key: entry.Key, Revision: entry.Revision}}, nil
}

// tierEmpty returns an error if a policy of any kind is in a tier. The conditions fail if any policy changes before the commit.
func (s *Store) tierEmpty(ctx context.Context, tier api.Key) ([]Condition, error) {
	var conditions []Condition
	var first api.Key
	holds := 0
	for _, plural := range []string{"globalnetworkpolicies", "networkpolicies", "stagedglobalnetworkpolicies", "stagednetworkpolicies"} {
		span := kv.Prefix(resourceRoot + plural + "/")
		revision, err := kv.Each(ctx, s.kv, span, 0, func(page Page) error {
			for _, entry := range page.Entries {
				if policyTier(entry.Value) != tier.Name {
					continue
				}
				if holds++; holds == 1 {
					first, _, _ = parseKey(entry.Key)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, Condition{Span: span, Revision: revision})
	}
	if holds > 0 {
		more := ""
		if holds > 1 {
			more = fmt.Sprintf(" and %d more", holds-1)
		}
		return nil, UnsupportedError{Operation: "Delete", Key: tier,
			Reason: fmt.Sprintf("the tier still holds %v%s: delete its policies first, or move them to another tier", first, more)}
	}
	return conditions, nil
}

// policyTier returns the tier in the stored value of a policy of any kind; empty if the value is unreadable.
func policyTier(value []byte) string {
	var policy struct{ Spec struct{ Tier string } }
	if json.Unmarshal(value, &policy) != nil {
		return ""
	}
	return orDefault(policy.Spec.Tier)
}

// filtersExist returns an error if a filter of a peer does not exist. The conditions fail if a filter changes before the commit.
func (s *Store) filtersExist(ctx context.Context, peer *api.BGPPeer) ([]Condition, error) {
	var conditions []Condition
	for _, name := range peer.Spec.Filters {
		path := resourceRoot + "bgpfilters/" + name
		entry, err := kv.Get(ctx, s.kv, path, 0)
		if err != nil {
			return nil, err
		}
		if entry == nil {
			return nil, NotFoundError{Key: api.Key{Kind: api.KindBGPFilter, Name: name}, Wanted: fmt.Sprintf("spec.filters of %v", api.KeyOf(peer))}
		}
		conditions = append(conditions, Condition{Key: path, Revision: entry.Revision})
	}
	return conditions, nil
}

const defaultAllow = "projectcalico-default-allow"

// synthetic returns the object of a key that always exists and is never stored; nil for all other keys.
func synthetic(key api.Key) api.Object {
	if key != (api.Key{Kind: api.KindProfile, Name: defaultAllow}) {
		return nil
	}
	return &api.Profile{
		TypeMeta: api.TypeMeta{Kind: api.KindProfile, APIVersion: api.APIVersion},
		Metadata: api.Metadata{Name: defaultAllow, ResourceVersion: "1"},
		Spec: api.ProfileSpec{
			Ingress: []api.Rule{{Action: api.Allow}},
			Egress:  []api.Rule{{Action: api.Allow}},
		},
	}
}

// clearNode deletes the dependents of a node that is about to be deleted: its workload and host endpoints, its own configuration and
// peers, and its claims on blocks. It releases the addresses.
func (s *Store) clearNode(ctx context.Context, node string) error {
	belongs := func(o api.Object) bool {
		switch o := o.(type) {
		case *api.WorkloadEndpoint:
			return o.Spec.Node == node
		case *api.BGPPeer:
			return o.Spec.Node == node
		case *api.HostEndpoint:
			return o.Spec.Node == node
		case *api.FelixConfiguration, *api.BGPConfiguration:
			return o.Meta().Name == "node."+node
		}
		return false
	}
	var objects []api.Object
	for _, kind := range []string{api.KindWorkloadEndpoint, api.KindBGPPeer, api.KindFelixConfiguration, api.KindBGPConfiguration, api.KindHostEndpoint} {
		listed, _, err := s.List(ctx, kind, "")
		if err != nil {
			return err
		}
		objects = append(objects, slices.DeleteFunc(listed, func(o api.Object) bool { return !belongs(o) })...)
	}
	if err := ipam.ReleaseNode(ctx, s.kv, node, addresses(objects)); err != nil {
		return fmt.Errorf("release the addresses of node %s: %w", node, err)
	}
	for _, o := range objects {
		if _, err := s.Delete(ctx, api.KeyOf(o), ""); err != nil && !isNotFound(err) {
			return fmt.Errorf("clear node %s: %w", node, err)
		}
	}
	return nil
}

// addresses returns the addresses of all workload endpoints among the objects.
func addresses(objects []api.Object) []netip.Addr {
	var found []netip.Addr
	for _, o := range objects {
		endpoint, ok := o.(*api.WorkloadEndpoint)
		if !ok {
			continue
		}
		for _, network := range endpoint.Spec.IPNetworks {
			host, _, _ := strings.Cut(network, "/")
			if addr, err := netip.ParseAddr(host); err == nil {
				found = append(found, addr)
			}
		}
	}
	return found
}

// disableTime is the time between disabling a pool and releasing its blocks: allocators that have just read the pool as enabled
// finish their claim meanwhile. Calico waits as long.
const disableTime = 500 * time.Millisecond

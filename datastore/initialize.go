package datastore

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"
	"github.com/margay-project/margay/api"
)

// EnsureInitialized creates the objects that every datastore has: the ClusterInformation and the built-in tiers. Existing objects stay.
func (s *Store) EnsureInitialized(ctx context.Context) error {
	ready := true
	information := &api.ClusterInformation{
		TypeMeta: api.TypeMeta{Kind: api.KindClusterInformation},
		Metadata: api.Metadata{Name: "default"},
		Spec: api.ClusterInformationSpec{
			ClusterGUID:    strings.ReplaceAll(uuid.NewString(), "-", ""),
			DatastoreReady: &ready,
		},
	}
	wanted := append([]api.Object{information}, initialTiers()...)
	// Read first: this costs less than refused writes, and margayctl calls it before every write.
	var keys []string
	for _, o := range wanted {
		keys = append(keys, ResourceKey(api.KeyOf(o)))
	}
	stored, _, err := s.kv.Lookup(ctx, keys)
	if err != nil {
		return err
	}
	for i, o := range wanted {
		if stored[i] != nil {
			continue
		}
		var exists ExistsError
		if _, err := s.Create(ctx, o); err != nil && !errors.As(err, &exists) {
			return err
		}
	}
	return nil
}

// initialTiers returns the built-in tiers.
func initialTiers() []api.Object {
	tier := func(name string, order float64, action api.Action) *api.Tier {
		return &api.Tier{
			TypeMeta: api.TypeMeta{Kind: api.KindTier},
			Metadata: api.Metadata{Name: name},
			Spec:     api.TierSpec{Order: &order, DefaultAction: &action},
		}
	}
	return []api.Object{
		tier(defaultTier, 1_000_000, api.Deny),
		tier("kube-admin", 1_000, api.Pass),
		tier("kube-baseline", 10_000_000, api.Pass),
	}
}

package datastore

import (
	"context"
	"errors"
	"fmt"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// policyKinds are the kinds whose keys had the name of the tier as a prefix in Calico up to v3.29.
var policyKinds = [...]string{api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindStagedNetworkPolicy, api.KindStagedGlobalNetworkPolicy}

// Renamed is a policy whose key has another name than the policy.
type Renamed struct {
	Key     api.Key
	OldName string // the name in the key
	Newer   bool   // the policy is also stored under its own name, which is in force: the old key is only deleted
}

// MigratePolicyNames moves every policy of the default tier whose key has another name than the policy to the key of its own name.
// With dryRun it only returns them. After an error the policies moved so far stay moved, and another call moves the rest.
func (s *Store) MigratePolicyNames(ctx context.Context, dryRun bool) ([]Renamed, error) {
	var done []Renamed
	var errs []error
	for _, name := range policyKinds {
		kind := knownKinds[name]
		var entries []Entry
		_, err := kv.Each(ctx, s.kv, kv.Prefix(kindPrefix(kind, "")), 0, func(page Page) error {
			entries = append(entries, page.Entries...)
			return nil
		})
		if err != nil {
			return done, fmt.Errorf("list %s: %w", kind.Plural, err)
		}
		for _, entry := range entries {
			renamed, moved, err := s.migratePolicyName(ctx, entry, dryRun)
			if err != nil {
				errs = append(errs, err)
			}
			if moved {
				done = append(done, renamed)
			}
		}
	}
	return done, errors.Join(errs...)
}

// migratePolicyName moves one policy, if its key has another name.
func (s *Store) migratePolicyName(ctx context.Context, entry Entry, dryRun bool) (renamed Renamed, moved bool, err error) {
	key, _, ok := parseKey(entry.Key)
	if !ok {
		return renamed, false, nil
	}
	for range attempts {
		o, err := decode(key, entry)
		if missing(o) || err != nil {
			return renamed, false, nil // its name is not known; the watch reports it as unreadable
		}
		if tier, _ := tierOf(o); o.Meta().Name == key.Name || orDefault(tier) != defaultTier {
			return renamed, false, nil
		}
		newer, err := kv.Get(ctx, s.kv, ResourceKey(api.KeyOf(o)), 0)
		if err != nil {
			return renamed, false, fmt.Errorf("get %v: %w", api.KeyOf(o), err)
		}
		renamed = Renamed{Key: api.KeyOf(o), OldName: key.Name, Newer: newer != nil}
		if dryRun {
			return renamed, true, nil
		}
		outcome, err := s.rename(ctx, entry, o, newer)
		if err != nil {
			return renamed, false, fmt.Errorf("rename %v: %w", api.KeyOf(o), err)
		}
		if outcome.Done {
			return renamed, true, nil
		}
		if outcome.Current[0] == nil {
			return renamed, false, nil // somebody else has moved or deleted it
		}
		entry = *outcome.Current[0]
	}
	return renamed, false, fmt.Errorf("rename %v: %w", renamed.Key, errContended)
}

// rename deletes the old key and writes the new one, in one transaction. If newer, the entry of the new key, exists, it only deletes.
func (s *Store) rename(ctx context.Context, old Entry, o api.Object, newer *Entry) (Outcome, error) {
	path := ResourceKey(api.KeyOf(o))
	writes := []Write{{Key: old.Key, Delete: true}}
	own := Condition{Key: path}
	if newer != nil {
		own.Revision = newer.Revision
	} else {
		value, err := encode(o)
		if err != nil {
			return Outcome{}, err
		}
		writes = append(writes, Write{Key: path, Value: value})
	}
	return s.commit(ctx, []Condition{{Key: old.Key, Revision: old.Revision}, own}, writes)
}

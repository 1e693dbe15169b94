package datastore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

const informationKey = resourceRoot + "clusterinformations/default"

var informationOf = api.Key{Kind: api.KindClusterInformation, Name: "default"}

var (
	// ErrUnlocked says that agents may follow the datastore, and others write to it, at the moment.
	ErrUnlocked = errors.New("the datastore is not locked")

	// ErrLocked says that the datastore is under maintenance, so that nobody writes to it unasked.
	ErrLocked = errors.New("the datastore is locked: margayctl datastore migrate unlock ends this")
)

// lockOf is what a stored ClusterInformation says; nil is none.
func lockOf(entry *Entry) (locked bool, err error) {
	if entry == nil {
		return false, nil
	}
	o, err := decode(informationOf, *entry)
	if err != nil {
		return false, UnreadableError{Key: informationOf, Cause: err}
	}
	return o.(*api.ClusterInformation).Locked(), nil
}

// isLocked says whether the stored ClusterInformation, which may be missing or not to be read, tells agents to wait.
func isLocked(value []byte) bool {
	locked, err := lockOf(&Entry{Key: informationKey, Value: value})
	return err == nil && locked
}

// readLock says whether the datastore is locked, and is the condition that this has not changed.
func readLock(ctx context.Context, store KV) (locked bool, still Condition, err error) {
	entry, err := kv.Get(ctx, store, informationKey, 0)
	if err != nil {
		return false, Condition{}, fmt.Errorf("look whether the datastore is locked: %w", err)
	}
	locked, err = lockOf(entry)
	return locked, Condition{Key: informationKey, Revision: kv.RevisionOf(entry)}, err
}

// WhileUnlocked is the same store for one who writes without having been told to, as an agent does: while the datastore is
// locked its changes are refused with ErrLocked. Each is made under the condition that nobody has locked it meanwhile.
func (s *Store) WhileUnlocked() *Store { return &Store{kv: unlocked{s.kv}, together: s.together} }

type unlocked struct{ KV }

// Commit implements KV.
func (u unlocked) Commit(ctx context.Context, conditions []Condition, writes []Write) (Outcome, error) {
	locked, still, err := readLock(ctx, u.KV)
	if err == nil && locked {
		err = ErrLocked
	}
	if err != nil {
		return Outcome{}, err
	}
	return u.KV.Commit(ctx, append(slices.Clip(conditions), still), writes)
}

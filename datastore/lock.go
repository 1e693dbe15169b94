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
	// ErrUnlocked says that an operation needs a locked datastore, and it is not locked.
	ErrUnlocked = errors.New("the datastore is not locked")

	// ErrLocked says that the datastore is locked for maintenance, so that agents must not write to it.
	ErrLocked = errors.New("the datastore is locked: margayctl datastore migrate unlock ends the lock")
)

// lockOf says whether a stored ClusterInformation locks the datastore. A nil entry, no ClusterInformation, does not.
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

// isLocked says whether the stored value of the ClusterInformation locks the datastore. A missing or unreadable value does not.
func isLocked(value []byte) bool {
	locked, err := lockOf(&Entry{Key: informationKey, Value: value})
	return err == nil && locked
}

// readLock says whether the datastore is locked. A commit under the condition still fails if the lock has changed since.
func readLock(ctx context.Context, store KV) (locked bool, still Condition, err error) {
	entry, err := kv.Get(ctx, store, informationKey, 0)
	if err != nil {
		return false, Condition{}, fmt.Errorf("read the lock of the datastore: %w", err)
	}
	locked, err = lockOf(entry)
	return locked, Condition{Key: informationKey, Revision: kv.RevisionOf(entry)}, err
}

// WhileUnlocked returns the same store for a program that writes without an order from an operator, such as an agent: while the
// datastore is locked, its changes fail with ErrLocked. Each change has the condition that the lock has not changed.
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

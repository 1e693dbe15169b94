package datastore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/datastore/kv"
)

// Transaction is a store that keeps its changes in memory until Commit makes all of them in one revision. Its reads see its own
// changes, so that a policy can be created after its tier.
type Transaction struct {
	*Store
	changes *overlay
}

// Begin returns an empty transaction.
func (s *Store) Begin() *Transaction {
	changes := newOverlay(s.kv)
	return &Transaction{Store: &Store{kv: changes, together: true}, changes: changes}
}

// Prefetch reads, in few requests, the keys that creating, changing or deleting the objects needs.
func (t *Transaction) Prefetch(ctx context.Context, objects []api.Object) error {
	wanted := map[string]bool{}
	for _, o := range objects {
		key := api.KeyOf(o)
		if path := ResourceKey(key); path != "" {
			wanted[path] = true
		}
		if tier, ok := tierOf(o); ok {
			wanted[ResourceKey(api.Key{Kind: api.KindTier, Name: orDefault(tier)})] = true
			wanted[ResourceKey(oldName(key))] = true
		}
		if peer, ok := o.(*api.BGPPeer); ok {
			for _, name := range peer.Spec.Filters {
				wanted[ResourceKey(api.Key{Kind: api.KindBGPFilter, Name: name})] = true
			}
		}
	}
	t.changes.mu.Lock()
	defer t.changes.mu.Unlock()
	return t.changes.learn(ctx, slices.Sorted(maps.Keys(wanted)))
}

// Size is the size of a commit. etcd limits each of the three numbers.
type Size struct {
	Writes, Conditions int
	Bytes              int // of keys and values, without the overhead of the protocol
}

// Bytes returns the number of bytes of all keys and values written so far.
func (t *Transaction) Bytes() int {
	t.changes.mu.Lock()
	defer t.changes.mu.Unlock()
	return t.changes.bytes
}

func sizeOf(conditions []Condition, writes []Write) Size {
	size := Size{Writes: len(writes), Conditions: len(conditions)}
	for _, c := range conditions {
		size.Bytes += len(c.Key) + len(c.Span.From) + len(c.Span.To)
	}
	for _, w := range writes {
		size.Bytes += len(w.Key) + len(w.Value)
	}
	return size
}

// Commit makes all changes, or none. A ConflictError names an object that has changed since the transaction read it. A TooLargeError
// says that the server does not accept a transaction of this size. Refused tells whether an error means that nothing was changed.
func (t *Transaction) Commit(ctx context.Context) error {
	conditions, writes := t.commit()
	if len(writes) == 0 {
		return nil
	}
	outcome, err := New(t.changes.KV).commit(ctx, conditions, writes)
	if err != nil {
		return explainSize(sizeOf(conditions, writes), err)
	}
	if !outcome.Done {
		return t.conflict(ctx, conditions)
	}
	return nil
}

// Check asks the server whether it would accept the commit. It sends the whole commit with a condition that never holds, so that
// nothing changes.
func (t *Transaction) Check(ctx context.Context) error {
	conditions, writes := t.commit()
	if len(writes) == 0 {
		return nil
	}
	size := sizeOf(conditions, writes)
	for i, c := range conditions {
		if c.Key == writes[0].Key { // every write has a condition for its key
			conditions[i].Revision = math.MaxInt64
		}
	}
	_, err := t.changes.KV.Commit(ctx, conditions, writes)
	return explainSize(size, err)
}

// commit returns the transaction for the server. Keys that were only read become conditions too, as long as the transaction has
// room.
func (t *Transaction) commit() ([]Condition, []Write) {
	o := t.changes
	o.mu.Lock()
	defer o.mu.Unlock()
	var conditions, onlyRead []Condition
	unused := map[string][]string{}
	for _, key := range slices.Sorted(maps.Keys(o.known)) {
		below := o.known[key]
		condition := Condition{Key: key, Revision: kv.RevisionOf(below.entry)}
		_, written := o.written[key]
		start, isOld := oldNames(key)
		switch {
		case below.use == required && isOld && below.entry == nil && !written:
			unused[start] = append(unused[start], key)
		case below.use == required:
			conditions = append(conditions, condition)
		case below.use == seen:
			onlyRead = append(onlyRead, condition)
		}
	}
	conditions = append(conditions, earliest(o.spans)...)
	for _, start := range slices.Sorted(maps.Keys(unused)) {
		conditions = append(conditions, o.noneOf(unused[start]))
	}
	room := max(0, kv.MostKeys-len(conditions))
	conditions = append(conditions, onlyRead[:min(room, len(onlyRead))]...)
	var writes []Write
	for _, key := range slices.Sorted(maps.Keys(o.written)) {
		entry := o.written[key]
		switch {
		case entry != nil:
			writes = append(writes, Write{Key: key, Value: entry.Value})
		case o.known[key].entry != nil: // otherwise this transaction has created and deleted it
			writes = append(writes, Write{Key: key, Delete: true})
		}
	}
	return conditions, writes
}

// oldNames says whether a key is one that Calico up to v3.29 used for a policy, and returns the prefix of all such keys of its kind.
func oldNames(path string) (start string, ok bool) {
	key, _, ok := parseKey(path)
	if !ok || !inTier(key.Kind) || !strings.HasPrefix(key.Name, legacyNameStart) {
		return "", false
	}
	return strings.TrimSuffix(path, strings.TrimPrefix(key.Name, legacyNameStart)), true
}

// noneOf returns one condition for many keys, in order, that do not exist. Every new policy needs one for its old name, and a
// transaction has room for only 128 conditions. It also fails if somebody writes a key that lies between them.
func (o *overlay) noneOf(keys []string) Condition {
	if len(keys) == 1 {
		return Condition{Key: keys[0]}
	}
	condition := Condition{Span: Span{From: keys[0], To: kv.Single(keys[len(keys)-1]).To}, Revision: o.known[keys[0]].at}
	for _, key := range keys {
		condition.Revision = min(condition.Revision, o.known[key].at)
	}
	return condition
}

// earliest merges conditions on the same span into one: that nothing has changed since the earliest revision.
func earliest(spans []Condition) (out []Condition) {
	for _, c := range spans {
		i := slices.IndexFunc(out, func(other Condition) bool { return other.Span == c.Span })
		if i < 0 {
			out = append(out, c)
			continue
		}
		out[i].Revision = min(out[i].Revision, c.Revision)
	}
	return out
}

// conflict returns the ConflictError for the first key that has changed since the transaction read it.
func (t *Transaction) conflict(ctx context.Context, conditions []Condition) error {
	var keys []string
	var revisions []int64
	for _, c := range conditions {
		if c.Key != "" {
			keys, revisions = append(keys, c.Key), append(revisions, c.Revision)
			continue
		}
		_, err := kv.Each(ctx, t.changes.KV, c.Span, 0, func(page Page) error {
			for _, entry := range page.Entries {
				if entry.Revision > c.Revision {
					return changed(entry.Key)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for start := 0; start < len(keys); start += kv.MostKeys {
		part := keys[start:min(start+kv.MostKeys, len(keys))]
		entries, _, err := t.changes.KV.Lookup(ctx, part)
		if err != nil {
			return err
		}
		for i, entry := range entries {
			if kv.RevisionOf(entry) != revisions[start+i] {
				return changed(part[i])
			}
		}
	}
	return errContended // a key was created, and deleted again
}

func changed(path string) error {
	key, _, ok := parseKey(path)
	if !ok {
		key = api.Key{Kind: "key", Name: path}
	}
	return ConflictError{Key: key}
}

// TooLargeError says that the server does not accept a transaction of this size.
type TooLargeError struct {
	Size  Size
	Cause error
}

func (e TooLargeError) Error() string {
	return fmt.Sprintf("one transaction of %d writes, %d conditions and %d bytes is more than etcd accepts: "+
		"its members allow 128 of each and 1572864 bytes by default (--max-txn-ops, --max-request-bytes)",
		e.Size.Writes, e.Size.Conditions, e.Size.Bytes)
}

func (e TooLargeError) Unwrap() error { return e.Cause }

func explainSize(size Size, err error) error {
	if etcd.TooLarge(err) || etcd.TooMany(err) {
		return TooLargeError{size, err}
	}
	return err
}

// Refused says whether an error means that the server did not make a commit. After other errors it may have been made.
func Refused(err error) bool {
	return errors.As(err, new(TooLargeError)) || errors.As(err, new(ConflictError)) || errors.Is(err, errContended) || etcd.Denied(err)
}

// SeveralStepsError says that a deletion cannot be part of a transaction, because it needs several steps that others must see.
type SeveralStepsError struct {
	Key    api.Key
	Reason string
}

func (e SeveralStepsError) Error() string {
	return fmt.Sprintf("%v cannot be deleted in one transaction with others: %s", e.Key, e.Reason)
}

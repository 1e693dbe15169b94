package datastore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// Store keeps objects in a KV, by Calico's rules: defaults and validation, compare-and-swap, and for each kind the rules between
// objects (see rules.go). Any number of goroutines may use it.
type Store struct {
	kv       KV
	together bool // in a Transaction: all changes are committed later, at once
}

// New returns a store in a KV. The store owns the KV: Close closes it.
func New(kv KV) *Store { return &Store{kv: kv} }

// Close closes the KV.
func (s *Store) Close() error { return s.kv.Close() }

// KV returns the KV of the store, for keys that hold no objects (see datastore/ipam). The store still owns it.
func (s *Store) KV() KV { return s.kv }

// attempts is the largest number of tries of an operation whose conditions fail because others write at the same time. Calico tries
// as often.
const attempts = 100

var errContended = errors.New("other programs keep changing the same objects: try again")

// Create stores a new object and returns it as stored. The error is an ExistsError if the object exists. o is not changed.
func (s *Store) Create(ctx context.Context, o api.Object) (api.Object, error) {
	o, err := prepare(o)
	if err != nil {
		return nil, err
	}
	meta, key := o.Meta(), api.KeyOf(o)
	if meta.ResourceVersion != "" {
		return nil, invalid("ResourceVersion", meta.ResourceVersion, "must not be set for an object to be created")
	}
	identify(meta)
	for attempt := range attempts {
		conditions, err := s.beforeCreate(ctx, o)
		if err != nil {
			return nil, err
		}
		if inTier(key.Kind) {
			unused, err := s.oldNameUnused(ctx, key, attempt > 0)
			if err != nil {
				return nil, err
			}
			conditions = append(conditions, unused)
		}
		value, err := encode(o)
		if err != nil {
			return nil, err
		}
		outcome, err := s.put(ctx, key, 0, conditions, value)
		if err != nil {
			return nil, fmt.Errorf("create %v: %w", key, err)
		}
		if outcome.Done {
			meta.ResourceVersion = strconv.FormatInt(outcome.Revision, 10)
			return o, nil
		}
		if outcome.Current[0] != nil {
			current, _ := decode(key, *outcome.Current[0])
			return nil, ExistsError{Key: key, Current: current}
		}
	}
	return nil, fmt.Errorf("create %v: %w", key, errContended)
}

// Update replaces an object that has not changed since the caller read it, and returns it as stored: o has the resourceVersion, uid
// and creationTimestamp that were read. The error is a ConflictError if the object has changed. Stored fields that this version
// does not know are kept. o is not changed.
func (s *Store) Update(ctx context.Context, o api.Object) (api.Object, error) {
	o, err := prepare(o)
	if err != nil {
		return nil, err
	}
	meta, key := o.Meta(), api.KeyOf(o)
	if synthetic(key) != nil {
		return nil, UnsupportedError{Operation: "Update", Key: key, Reason: builtIn}
	}
	revision, err := parseVersion(meta.ResourceVersion)
	if err != nil {
		return nil, err
	}
	for range attempts {
		entry, old, err := s.current(ctx, key, revision)
		if err != nil {
			return nil, err
		}
		if missing(old) {
			identify(meta) // the stored value is unreadable, so the caller could not read uid and creationTimestamp
		}
		if err := carriesIdentity(meta); err != nil {
			return nil, err
		}
		conditions, err := s.beforeUpdate(ctx, old, o)
		if err != nil {
			return nil, err
		}
		value, err := encodeOver(key, entry, o)
		if err != nil {
			return nil, err
		}
		outcome, err := s.overwrite(ctx, key, entry, conditions, value)
		if err != nil {
			return nil, fmt.Errorf("update %v: %w", key, err)
		}
		if outcome.Done {
			meta.ResourceVersion = strconv.FormatInt(outcome.Revision, 10)
			return o, nil
		}
	}
	return nil, fmt.Errorf("update %v: %w", key, errContended)
}

// Delete deletes an object and everything that depends on it, and returns the object; nil if its value is unreadable. With a
// resourceVersion it deletes only that version, and the error is a ConflictError if the object has changed.
func (s *Store) Delete(ctx context.Context, key api.Key, resourceVersion string) (api.Object, error) {
	var revision int64
	if resourceVersion != "" {
		var err error
		if revision, err = parseVersion(resourceVersion); err != nil {
			return nil, err
		}
	}
	if err := Deletable(key); err != nil {
		return nil, err
	}
	for range attempts {
		entry, old, err := s.current(ctx, key, revision)
		if err != nil {
			return nil, err
		}
		conditions, err := s.beforeDelete(ctx, key)
		if err != nil {
			return nil, err
		}
		changed, err := s.clearBeforeDelete(ctx, key, entry, old)
		var conflict ConflictError
		switch {
		case errors.As(err, &conflict) && revision == 0:
			continue
		case err != nil:
			return nil, err
		case changed:
			revision = 0 // this deletion itself has changed it
			if entry, old, err = s.current(ctx, key, 0); err != nil {
				return nil, err
			}
		}
		conditions = append(conditions, Condition{Key: entry.Key, Revision: entry.Revision})
		outcome, err := s.commit(ctx, conditions, []Write{{Key: entry.Key, Delete: true}})
		if err != nil {
			return nil, fmt.Errorf("delete %v: %w", key, err)
		}
		if outcome.Done {
			return old, nil
		}
	}
	return nil, fmt.Errorf("delete %v: %w", key, errContended)
}

// Get reads one object. The error is a NotFoundError, or an UnreadableError for a value that cannot be decoded.
func (s *Store) Get(ctx context.Context, key api.Key) (api.Object, error) {
	if o := synthetic(key); o != nil {
		return o, nil
	}
	if key.Kind == api.KindBlockAffinity {
		return s.getClaimedBlock(ctx, key)
	}
	entry, err := s.find(ctx, key)
	if err != nil {
		return nil, err
	}
	o, err := decode(key, *entry)
	if err == nil {
		return o, nil
	}
	if missing(o) {
		o, _ = api.New(key.Kind)
		o.Meta().Name, o.Meta().Namespace = key.Name, key.Namespace
		o.Meta().ResourceVersion = strconv.FormatInt(entry.Revision, 10)
	}
	return nil, UnreadableError{Key: key, Current: o, Cause: err}
}

// find returns the entry of an object: under its own name, or, for a policy, under the name that Calico up to v3.29 used.
func (s *Store) find(ctx context.Context, key api.Key) (*Entry, error) {
	path := ResourceKey(key)
	if path == "" {
		return nil, fmt.Errorf("%v: unknown kind", key)
	}
	entry, err := kv.Get(ctx, s.kv, path, 0)
	if err != nil {
		return nil, fmt.Errorf("get %v: %w", key, err)
	}
	if entry == nil && inTier(key.Kind) {
		entry, err = s.findLegacy(ctx, key)
	}
	if err == nil && entry == nil {
		err = NotFoundError{Key: key}
	}
	return entry, err
}

func (s *Store) findLegacy(ctx context.Context, key api.Key) (*Entry, error) {
	old := oldName(key)
	entry, err := kv.Get(ctx, s.kv, ResourceKey(old), 0)
	if err != nil {
		return nil, fmt.Errorf("get %v: %w", key, err)
	}
	if entry == nil {
		return nil, nil
	}
	if o, _ := decode(old, *entry); missing(o) || o.Meta().Name != key.Name {
		return nil, nil
	}
	return entry, nil
}

// oldName returns the key that Calico up to v3.29 used for a policy of the default tier.
func oldName(key api.Key) api.Key {
	key.Name = legacyNameStart + key.Name
	return key
}

// oldNameUnused returns the condition that a policy does not exist under its old name (see oldName). The old key is almost always
// free: the condition assumes so, and with look, after a commit has failed, the key is read.
func (s *Store) oldNameUnused(ctx context.Context, key api.Key, look bool) (Condition, error) {
	old := oldName(key)
	condition := Condition{Key: ResourceKey(old)}
	if !look {
		return condition, nil
	}
	entry, err := s.findLegacy(ctx, key)
	if err != nil {
		return condition, err
	}
	if entry != nil {
		current, _ := decode(old, *entry)
		return condition, ExistsError{Key: key, Current: current}
	}
	if entry, err = kv.Get(ctx, s.kv, condition.Key, 0); err != nil {
		return condition, fmt.Errorf("get %v: %w", old, err)
	}
	if entry != nil {
		condition.Revision = entry.Revision // another policy, whose own name this is
	}
	return condition, nil
}

// current returns an object that is about to be changed, with its entry. The error is a ConflictError if it is not at the revision; 0
// accepts any. The object is nil if its value is unreadable.
func (s *Store) current(ctx context.Context, key api.Key, revision int64) (*Entry, api.Object, error) {
	entry, err := s.find(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	if revision != 0 && entry.Revision != revision {
		return nil, nil, ConflictError{Key: key}
	}
	o, err := decode(key, *entry)
	if err != nil {
		return entry, nil, nil
	}
	return entry, o, nil
}

// put writes the value of an object, if its key is at a revision; 0 means that the key does not exist.
func (s *Store) put(ctx context.Context, key api.Key, revision int64, conditions []Condition, value []byte) (Outcome, error) {
	path := ResourceKey(key)
	conditions = append(conditions, Condition{Key: path, Revision: revision})
	return s.commit(ctx, conditions, []Write{{Key: path, Value: value}})
}

// overwrite replaces the value of an entry, if the entry has not changed. An entry under the old name of a policy moves to its own.
func (s *Store) overwrite(ctx context.Context, key api.Key, entry *Entry, conditions []Condition, value []byte) (Outcome, error) {
	path := ResourceKey(key)
	if entry.Key == path {
		return s.put(ctx, key, entry.Revision, conditions, value)
	}
	conditions = append(conditions, Condition{Key: path}, Condition{Key: entry.Key, Revision: entry.Revision})
	return s.commit(ctx, conditions, []Write{{Key: path, Value: value}, {Key: entry.Key, Delete: true}})
}

// commit commits writes of whole objects. A commit whose answer was lost counts as done if the objects are as it wanted them.
func (s *Store) commit(ctx context.Context, conditions []Condition, writes []Write) (Outcome, error) {
	outcome, err := s.kv.Commit(ctx, conditions, writes)
	if outcome.Echo {
		outcome.Done = true
		if first := outcome.Current[0]; first != nil {
			outcome.Revision = first.Revision
		}
	}
	return outcome, err
}

// encodeOver returns the stored form of an object that replaces an entry. Stored fields that this version does not know stay, because
// a writer with a manifest has not read them. Inside of lists they do not stay: an element of a list has no identity.
func encodeOver(key api.Key, entry *Entry, o api.Object) ([]byte, error) {
	if old, _ := decode(key, *entry); !missing(old) {
		o = shallow(o)
		o.Meta().Rest = union(o.Meta().Rest, old.Meta().Rest)
	}
	return encode(o)
}

// union returns all of a, and the fields of b with other paths that are not inside of a list.
func union(a, b []api.RestField) []api.RestField {
	out := slices.Clone(a)
	for _, field := range b {
		same := func(other api.RestField) bool { return other.Path == field.Path }
		if !slices.ContainsFunc(a, same) && !inList(field.Path) {
			out = append(out, field)
		}
	}
	return out
}

// inList says whether a path goes through an element of a list.
func inList(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), func(segment string) bool {
		return segment != "" && strings.Trim(segment, "0123456789") == ""
	})
}

// prepare returns a copy of an object with defaults. The error says why it may not be stored.
func prepare(o api.Object) (api.Object, error) {
	o = deep(o)
	kind, ok := api.KindOf(o.Type().Kind)
	if !ok {
		return nil, fmt.Errorf("kind %q is unknown", o.Type().Kind)
	}
	*o.Type() = api.TypeMeta{Kind: kind.Name, APIVersion: api.APIVersion}
	meta := o.Meta()
	meta.Unsealed = false
	if kind.Name == api.KindBlockAffinity {
		return nil, UnsupportedError{Operation: "Write", Key: api.KeyOf(o), Reason: onlyIPAM}
	}
	api.Default(o)
	switch {
	case meta.Name == "":
		return nil, invalid("metadata.name", "", "name is required; generateName is not supported")
	case strings.Contains(meta.Name, "/"):
		return nil, invalid("metadata.name", meta.Name, "name must not contain a slash")
	}
	if err := api.Validate(o); err != nil {
		return nil, err
	}
	return o, nil
}

// identify sets uid and creationTimestamp of an object, unless they are set.
func identify(meta *api.Metadata) {
	if meta.UID == "" {
		meta.UID = uuid.NewString()
	}
	if meta.CreationTimestamp.IsZero() {
		meta.CreationTimestamp.Time = time.Now().UTC().Truncate(time.Second)
	}
}

// carriesIdentity returns an error if an update lacks the uid or creationTimestamp of the object that was read.
func carriesIdentity(meta *api.Metadata) error {
	if meta.UID == "" {
		return invalid("metadata.uid", "", "uid is required for an update")
	}
	if meta.CreationTimestamp.IsZero() {
		return invalid("metadata.creationTimestamp", "", "creationTimestamp is required for an update")
	}
	return nil
}

func parseVersion(text string) (int64, error) {
	if text == "" {
		return 0, invalid("metadata.resourceVersion", "", "resourceVersion is required for an update")
	}
	revision, err := strconv.ParseInt(text, 10, 64)
	if err != nil || revision <= 0 {
		return 0, invalid("ResourceVersion", text, "must be a number")
	}
	return revision, nil
}

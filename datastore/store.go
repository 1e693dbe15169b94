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

// Store keeps objects in a KV, by the rules of the dialect: defaults and validation, compare-and-swap, and for each kind
// what must hold between objects (see rules.go).
type Store struct {
	kv       KV
	together bool // changes are committed together later, so that nobody can see one of them half done
}

// New is a store in a KV, which it closes when it is closed.
func New(kv KV) *Store { return &Store{kv: kv} }

// Close ends the connection.
func (s *Store) Close() error { return s.kv.Close() }

// KV is where the store keeps everything, for what is not an object (see datastore/ipam).
func (s *Store) KV() KV { return s.kv }

// attempts bounds how often an operation is tried anew because something else changed meanwhile.
const attempts = 100

var errContended = errors.New("others change the same objects all the time: try again")

// Create stores a new object and returns it as stored. It is refused when the object exists.
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

// Update replaces an object that has not changed since the caller read it: o carries the resourceVersion, uid and
// creationTimestamp that it was read with. Stored fields that this version does not know are kept.
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
			identify(meta) // there is nothing readable that the caller could have taken it from
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

// Delete removes an object and returns it, or nil if its value could not be read. With a resourceVersion only if it has not
// changed since then.
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
		changed, err := s.settleBeforeDelete(ctx, key, entry, old)
		var conflict ConflictError
		switch {
		case errors.As(err, &conflict) && revision == 0:
			continue
		case err != nil:
			return nil, err
		case changed:
			revision = 0 // it was changed by this deletion itself
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

// Get reads one object.
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

// find is the entry of an object: under its own name, or under the name that versions up to v3.29 gave a policy's key.
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

// oldName is the key that a policy had until v3.29.
func oldName(key api.Key) api.Key {
	key.Name = legacyNameStart + key.Name
	return key
}

// oldNameUnused is the condition that a policy does not exist under the name that versions up to v3.29 gave its key. There is
// nearly never anything under such a key, so it is looked at only when that turns out to be wrong.
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
		condition.Revision = entry.Revision // a policy that has this name by itself
	}
	return condition, nil
}

// current is an object that is about to be changed, if it is still at a revision (0: whatever it is at). The object is
// nil when it cannot be read.
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

// put writes an object's value if the key is at a revision; 0 if it does not exist.
func (s *Store) put(ctx context.Context, key api.Key, revision int64, conditions []Condition, value []byte) (Outcome, error) {
	path := ResourceKey(key)
	conditions = append(conditions, Condition{Key: path, Revision: revision})
	return s.commit(ctx, conditions, []Write{{Key: path, Value: value}})
}

// overwrite puts a new value in the place of an entry. An entry under a policy's old name moves to the new one.
func (s *Store) overwrite(ctx context.Context, key api.Key, entry *Entry, conditions []Condition, value []byte) (Outcome, error) {
	path := ResourceKey(key)
	if entry.Key == path {
		return s.put(ctx, key, entry.Revision, conditions, value)
	}
	conditions = append(conditions, Condition{Key: path}, Condition{Key: entry.Key, Revision: entry.Revision})
	return s.commit(ctx, conditions, []Write{{Key: path, Value: value}, {Key: entry.Key, Delete: true}})
}

// commit makes writes of whole objects. One whose answer was lost counts as done when the objects are as it wanted them.
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

// encodeOver is the stored form of an object that replaces an entry. A writer that did not read the entry, such as one
// with a manifest, does not know of the stored fields that this version does not have: they stay. Inside of lists they
// are the writer's, because an element of a list has no identity.
func encodeOver(key api.Key, entry *Entry, o api.Object) ([]byte, error) {
	if old, _ := decode(key, *entry); !missing(old) {
		o = shallow(o)
		o.Meta().Rest = union(o.Meta().Rest, old.Meta().Rest)
	}
	return encode(o)
}

// union is all of a, and those of b that have another path and are in no list.
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

// inList says whether a path leads through an element of a list.
func inList(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), func(segment string) bool {
		return segment != "" && strings.Trim(segment, "0123456789") == ""
	})
}

// prepare is a copy of an object as it may be stored: with defaults, and valid.
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
		return nil, UnsupportedError{Operation: "Write", Key: api.KeyOf(o), Reason: "it is what IPAM says"}
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

// identify gives an object what identifies it, unless it has that.
func identify(meta *api.Metadata) {
	if meta.UID == "" {
		meta.UID = uuid.NewString()
	}
	if meta.CreationTimestamp.IsZero() {
		meta.CreationTimestamp.Time = time.Now().UTC().Truncate(time.Second)
	}
}

// carriesIdentity says whether an update carries what identifies the object that was read.
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

package datastore

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv"
)

// Imported says what an import did.
type Imported struct {
	Written int // keys
	Already int // keys that were there as the archive has them, from an import that was interrupted
}

// In one transaction: as many writes as etcd takes, and no more bytes than it takes by default.
const (
	importWrites = 64
	importBytes  = 512 << 10
)

// Import writes an archive into a datastore that holds nothing yet but what a new one has, or also other things with merge:
// they stay. It looks at everything before it writes anything, and never overwrites. The datastore is locked from the first
// write on, and stays so. An import that was interrupted is completed by another one of the same archive.
func (s *Store) Import(ctx context.Context, a *Archive, merge bool) (Imported, error) {
	plan, err := s.planImport(ctx, a, merge)
	if err != nil {
		return Imported{}, err
	}
	done := Imported{Already: plan.already}
	for len(plan.writes) > 0 {
		n := batchOf(plan.writes)
		outcome, err := s.commit(ctx, plan.conditions[:n], plan.writes[:n])
		if err != nil {
			return done, fmt.Errorf("import: %d of %d keys are written, and the datastore is locked: import the same file again to go on: %w", done.Written, plan.total, err)
		}
		if !outcome.Done {
			return done, fmt.Errorf("import: something else writes to the datastore at the same time, such as an agent: stop it, and import again (%d of %d keys are written)", done.Written, plan.total)
		}
		done.Written += n
		plan.writes, plan.conditions = plan.writes[n:], plan.conditions[n:]
	}
	return done, nil
}

func batchOf(writes []Write) (n int) {
	size := 0
	for n < min(len(writes), importWrites) {
		size += len(writes[n].Key) + len(writes[n].Value)
		if n > 0 && size > importBytes {
			break
		}
		n++
	}
	return n
}

// importPlan is what is to be written, each write with the condition that its key is still as it was seen.
type importPlan struct {
	writes     []Write
	conditions []Condition
	already    int
	total      int
	conflicts  []string
	foreign    []string // keys that the archive does not have
}

const mostNamed = 10 // keys in an error

func (s *Store) planImport(ctx context.Context, a *Archive, merge bool) (*importPlan, error) {
	existing := map[string]Entry{}
	plan := &importPlan{total: a.Len()}
	_, err := kv.Each(ctx, s.kv, kv.Prefix(rootKey), 0, func(page Page) error {
		for _, entry := range page.Entries {
			if strings.HasPrefix(entry.Key, reportRoot) {
				continue
			}
			existing[entry.Key] = entry
			if _, ours := a.values[entry.Key]; !ours && !isInitial(entry) {
				plan.foreign = append(plan.foreign, entry.Key)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at what the datastore holds: %w", err)
	}
	if err := plan.lockFirst(a, existing, merge); err != nil {
		return nil, err
	}
	for _, path := range sortedKeys(a.values) {
		if path == informationKey {
			continue
		}
		entry, exists := existing[path]
		if err := plan.add(a, path, entry, exists); err != nil {
			return nil, err
		}
	}
	if err := plan.refusal(merge); err != nil || !merge {
		return plan, err
	}
	return plan, s.poolsFit(ctx, plan.writes)
}

// poolsFit says whether no pool that is to be written overlaps one that stays.
func (s *Store) poolsFit(ctx context.Context, writes []Write) error {
	for _, w := range writes {
		key, _, _ := parseKey(w.Key)
		if key.Kind != api.KindIPPool {
			continue
		}
		if o, err := decode(key, Entry{Key: w.Key, Value: w.Value}); err == nil {
			if _, err := s.poolFits(ctx, o.(*api.IPPool)); err != nil {
				return fmt.Errorf("import: nothing is written: %w", err)
			}
		}
	}
	return nil
}

// lockFirst makes the first write the one that locks the datastore. With merge its own ClusterInformation stays, but for that.
func (p *importPlan) lockFirst(a *Archive, existing map[string]Entry, merge bool) error {
	value, entry := a.values[informationKey], existing[informationKey]
	if entry.Value != nil && merge {
		o, err := decode(informationOf, entry)
		if err != nil {
			return err
		}
		locked := false
		o.(*api.ClusterInformation).Spec.DatastoreReady = &locked
		if value, err = encode(o); err != nil {
			return err
		}
	}
	if bytes.Equal(value, entry.Value) {
		p.already++
		return nil
	}
	p.put(informationKey, value, entry.Revision)
	return nil
}

func (p *importPlan) add(a *Archive, path string, entry Entry, exists bool) error {
	value := a.values[path]
	anonymous := a.anonymous[path]
	switch {
	case exists && (bytes.Equal(entry.Value, value) || anonymous && equalButIdentity(path, entry.Value, value)):
		p.already++
		return nil
	case exists && !isInitial(entry):
		p.conflicts = append(p.conflicts, path)
		return nil
	case anonymous:
		var err error
		if value, err = identified(path, value); err != nil {
			return err
		}
	}
	p.put(path, value, entry.Revision)
	return nil
}

func (p *importPlan) put(path string, value []byte, revision int64) {
	p.writes = append(p.writes, Write{Key: path, Value: value})
	p.conditions = append(p.conditions, Condition{Key: path, Revision: revision})
}

// refusal is why nothing may be written.
func (p *importPlan) refusal(merge bool) error {
	switch {
	case len(p.conflicts) > 0:
		return fmt.Errorf("import: the datastore has other values under keys of the file, and nothing is overwritten: "+
			"delete them first, or import into an empty datastore, before an agent uses it and writes its Node and its configuration:\n%s", indented(p.conflicts))
	case len(p.foreign) > 0 && !merge:
		return fmt.Errorf("import: the datastore holds more than the file: "+
			"import into an empty one, or give --merge to keep what is there:\n%s", indented(p.foreign))
	}
	return nil
}

func indented(keys []string) string {
	text := "  " + strings.Join(keys[:min(len(keys), mostNamed)], "\n  ")
	if len(keys) > mostNamed {
		text += fmt.Sprintf("\n  and %d more", len(keys)-mostNamed)
	}
	return text
}

// isInitial says whether a key is as EnsureInitialized makes it in a new datastore.
func isInitial(entry Entry) bool {
	if entry.Key == informationKey {
		return true
	}
	for _, o := range initialTiers() {
		if entry.Key != ResourceKey(api.KeyOf(o)) {
			continue
		}
		o, err := prepare(o)
		if err != nil {
			return false
		}
		value, err := encode(o)
		return err == nil && equalButIdentity(entry.Key, entry.Value, value)
	}
	return false
}

// identified is a value with a uid and a time of creation, which documents of calicoctl leave out.
func identified(path string, value []byte) ([]byte, error) {
	key, _, _ := parseKey(path)
	o, err := decode(key, Entry{Key: path, Value: value})
	if err != nil {
		return nil, err
	}
	identify(o.Meta())
	return encode(o)
}

// equalButIdentity says whether what is stored is a value that had no uid and no time of creation until it was stored.
func equalButIdentity(path string, stored, value []byte) bool {
	key, _, _ := parseKey(path)
	o, err := decode(key, Entry{Key: path, Value: stored})
	if err != nil {
		return false
	}
	o.Meta().UID, o.Meta().CreationTimestamp = "", api.Time{}
	is, err := encode(o)
	return err == nil && bytes.Equal(is, value)
}

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
	Already int // keys that had the same value before, for example from an interrupted import
}

// Limits of one transaction, below those of etcd by default (128 operations, 1.5 MiB).
const (
	importWrites = 64
	importBytes  = 512 << 10
)

// Import writes an archive into a new datastore, or with merge into one that holds other objects, which stay. It checks everything
// before the first write, and never overwrites a value. The first write locks the datastore, and it stays locked. Importing the
// same archive again completes an interrupted import.
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
			return done, fmt.Errorf("import: %d of %d keys are written, and the datastore is locked: import the same file again to continue: %w", done.Written, plan.total, err)
		}
		if !outcome.Done {
			return done, fmt.Errorf("import: another program, such as an agent, writes to the datastore at the same time: stop it and import again (%d of %d keys are written)", done.Written, plan.total)
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

// importPlan holds the writes of an import, each with the condition that its key has not changed since it was read.
type importPlan struct {
	writes     []Write
	conditions []Condition
	already    int      // keys that have the wanted value
	total      int      // keys of the archive
	conflicts  []string // keys with another value than in the archive
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
		return nil, fmt.Errorf("read the datastore: %w", err)
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

// poolsFit returns an error if a pool of the archive overlaps a pool of the datastore.
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

// lockFirst plans the first write, which locks the datastore. With merge, the ClusterInformation of the datastore stays, except for the
// lock.
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

// refusal returns the reason why nothing may be written; nil if there is none.
func (p *importPlan) refusal(merge bool) error {
	switch {
	case len(p.conflicts) > 0:
		return fmt.Errorf("import: nothing is written, because these keys of the file have other values in the datastore: "+
			"delete them first, or import into an empty datastore before an agent writes its Node and configuration there:\n%s", indented(p.conflicts))
	case len(p.foreign) > 0 && !merge:
		return fmt.Errorf("import: the datastore holds keys that are not in the file: "+
			"import into an empty datastore, or give --merge to keep them:\n%s", indented(p.foreign))
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

// isInitial says whether an entry is one that EnsureInitialized creates in a new datastore.
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

// identified adds uid and creationTimestamp to a value, which documents of calicoctl lack.
func identified(path string, value []byte) ([]byte, error) {
	key, _, _ := parseKey(path)
	o, err := decode(key, Entry{Key: path, Value: value})
	if err != nil {
		return nil, err
	}
	identify(o.Meta())
	return encode(o)
}

// equalButIdentity says whether a stored value equals value, except for uid and creationTimestamp, which value lacks.
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

package datastore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/margay-project/margay/datastore/kv"
)

// Archive is the whole content of a datastore: the stored value of each key, including kinds and fields that this version does not
// know. It leaves out the reports of running agents about themselves, which would be wrong in another datastore.
type Archive struct {
	values    map[string][]byte
	anonymous map[string]bool // keys of objects without uid and creationTimestamp, which calicoctl leaves out of its files
}

// Len returns the number of keys.
func (a *Archive) Len() int { return len(a.values) }

const reportRoot = rootKey + "felix/" // agents report their state below it

// Export reads everything at one revision. The datastore must be locked; the error is ErrUnlocked otherwise. It begins again if etcd
// compacts the revision meanwhile.
func (s *Store) Export(ctx context.Context) (*Archive, error) {
	for range attempts {
		a := &Archive{values: map[string][]byte{}}
		_, err := kv.Each(ctx, s.kv, kv.Prefix(rootKey), 0, func(page Page) error {
			for _, entry := range page.Entries {
				if !strings.HasPrefix(entry.Key, reportRoot) {
					a.values[entry.Key] = entry.Value
				}
			}
			return nil
		})
		switch {
		case errors.Is(err, ErrCompacted): // read again, at the newest revision
			continue
		case err != nil:
			return nil, fmt.Errorf("read the datastore: %w", err)
		case !isLocked(a.values[informationKey]):
			return nil, fmt.Errorf("%w, so changes made during the export would be lost", ErrUnlocked)
		}
		return a, nil
	}
	return nil, fmt.Errorf("read the datastore: %w", ErrCompacted)
}

// Problems names the stored objects that no agent can use, each with the reason, sorted by key.
func (a *Archive) Problems() []string {
	var lines []string
	for _, path := range sortedKeys(a.values) {
		key, known, ok := parseKey(path)
		if !ok || !known {
			continue
		}
		if _, problem := read(key, Entry{Key: path, Value: a.values[path]}); problem != "" {
			lines = append(lines, fmt.Sprintf("%v: %s", key, problem))
		}
	}
	return lines
}

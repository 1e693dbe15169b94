package datastore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/margay-project/margay/datastore/kv"
)

// Archive is everything that a datastore holds, as it is stored under each key, kinds and fields that this version does not
// know included. Reports of running agents about themselves are left out: in another datastore it would be untrue.
type Archive struct {
	values    map[string][]byte
	anonymous map[string]bool // objects of a file without uid and time of creation: calicoctl leaves these out
}

// Len is the number of keys.
func (a *Archive) Len() int { return len(a.values) }

const reportRoot = rootKey + "felix/" // what agents report

// Export reads everything at one revision. The datastore must be locked.
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
		case errors.Is(err, ErrCompacted): // while it was being read: once more, from the newest
			continue
		case err != nil:
			return nil, fmt.Errorf("read the datastore: %w", err)
		case !isLocked(a.values[informationKey]):
			return nil, fmt.Errorf("%w, and what changes meanwhile would be left behind", ErrUnlocked)
		}
		return a, nil
	}
	return nil, fmt.Errorf("read the datastore: %w", ErrCompacted)
}

// Problems are the objects that no agent takes as they are stored, in order, each with the reason.
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
